"""Losses: `f(outputs, targets, *, where=None, …) -> per-example values [b]`. One family a file.

The first argument's name says what a loss reads: `logits` [b, k], unit-length `embeddings` [b, e] or `scores` [b] for those that are
trained by name, which `cnn_jax/registry.py` lists; their targets are the int labels. All others are functions for one's own programs.

Conventions, the same in every file:

* Values are those of torch's `reduction="none"`. Where an example has several elements its value is their mean, so that the mean over
  examples is torch's `reduction="mean"`; a loss that sums them instead says so. `reduction.reduce` makes one number of them.
* Examples with `where` False have value 0 and gradient 0, whatever they hold, NaN included.
* Half-precision arguments are computed with in float32; the values have the type of the first argument.
* Shapes and types are checked always. Values (labels in range, probabilities in [0, 1], targets of ±1) are checked where they are known:
  not while jit, grad or vmap traces them. What slips through there gives NaN, not the loss of another class, unless the docstring says
  otherwise.
"""
