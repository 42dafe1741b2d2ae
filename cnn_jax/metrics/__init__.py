"""Metrics. Those over a batch return sums and counts that merge by addition; retrieval reads all embeddings at once."""
