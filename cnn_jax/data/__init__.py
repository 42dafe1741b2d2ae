"""Data sets by name, random access to their examples, and batches. The only importer of tfds and grain."""
