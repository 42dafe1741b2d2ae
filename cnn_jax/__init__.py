"""Convolutional networks in JAX: pure functions, explicit state, experiments as values. DESIGN.md tells where is what."""
