"""Losses: `f(outputs, targets, *, where=None, …) -> per-example values [b]`. One family a file.

The first argument's name says what a loss reads: `logits` [b, k], unit-length `embeddings` [b, e], or `scores` [b].
"""
