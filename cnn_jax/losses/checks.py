"""What the arguments of a loss must be. Errors name the argument, the value, its place, and what is allowed.

Shapes and types are checked always. Values are checked where they are known: under jit, grad or vmap an array that is traced has none
yet, and values that are not allowed become NaN instead, so that the loss shows them.
"""

import math

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from cnn_jax.ops.arguments import check_array, check_number, check_values


def described(array: Array) -> str:
    """Returns shape and type as the errors show them.

    >>> described(jnp.zeros((8, 10), int))
    '[8, 10] (int32)'
    """
    return f"{list(array.shape)} ({array.dtype})"


def check_same_shape(**arrays: Array) -> None:
    """Raises ValueError unless all arrays have the shape of the first.

    >>> check_same_shape(scores=jnp.zeros(8), targets=jnp.zeros(7))
    Traceback (most recent call last):
    ValueError: scores [8] but targets [7]: targets must be [8]
    """
    for name, array in arrays.items():
        check_array(name, array)
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.shape != reference.shape:
            wanted = list(reference.shape)
            raise ValueError(f"{first} {wanted} but {name} {list(array.shape)}: {name} must be {wanted}")


def check_rows(name: str, array: Array, wanted: str) -> None:
    """Raises ValueError unless the array has as many axes as `wanted`, such as "[b, k]".

    >>> check_rows("logits", jnp.zeros(8), "[b, k]")
    Traceback (most recent call last):
    ValueError: logits [8] must be [b, k]
    """
    check_array(name, array)
    if array.ndim != wanted.count(",") + 1:
        raise ValueError(f"{name} {list(array.shape)} must be {wanted}")


def check_margin(margin: float, name: str = "margin") -> None:
    """Raises ValueError unless a margin is finite and not negative.

    >>> check_margin(-1.0)
    Traceback (most recent call last):
    ValueError: margin=-1.0 must be finite and not negative
    """
    check_number(name, margin, lambda v: 0 <= v < math.inf, "finite and not negative")


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless an option is finite and above 0.

    >>> check_positive("temperature", 0.0)
    Traceback (most recent call last):
    ValueError: temperature=0.0 must be finite and positive
    """
    check_number(name, value, lambda v: 0 < v < math.inf, "finite and positive")


def check_labels(labels: Array, name: str, outputs: Array) -> None:
    """Raises ValueError unless labels are integers with the shape of `outputs` [b, *space, k] but its last axis.

    >>> check_labels(jnp.zeros(7, int), "logits", jnp.zeros((8, 10)))
    Traceback (most recent call last):
    ValueError: logits [8, 10] but labels [7]: labels must be ints [8]
    """
    check_array(name, outputs)
    check_array("labels", labels)
    wanted = list(outputs.shape[:-1])
    if list(labels.shape) != wanted:
        raise ValueError(f"{name} {list(outputs.shape)} but labels {list(labels.shape)}: labels must be ints {wanted}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels {described(labels)} must be ints {wanted}, the number of each example's class")


def class_index(labels: Array, num_classes: int) -> Integer[Array, "..."]:
    """Returns labels as an index that reads NaN, with `mode="fill"`, where a label is out of range.

    An index of −1 would read the last class.

    Raises:
      ValueError: a label lies outside 0 … k − 1 (where values are known).

    >>> class_index(jnp.array([3, 0]), 3)
    Traceback (most recent call last):
    ValueError: labels[0]=3 is not allowed: labels must be from 0 to 2, for 3 classes
    """
    check_values("labels", labels, lambda n: (n >= 0) & (n < num_classes), f"from 0 to {num_classes - 1}, for {num_classes} classes")
    labels = labels.astype(jnp.int32) if labels.dtype.itemsize < 8 else labels  # int8 could not hold k; uint32 becomes negative
    return jnp.where(labels < 0, num_classes, labels)


def fractions(name: str, x: Array, dtype: DTypeLike) -> Float[Array, "..."]:
    """Returns x (floats, ints or booleans) as floats in [0, 1], NaN for what is outside.

    Raises:
      ValueError: a value lies outside [0, 1] (where values are known).

    >>> fractions("targets", jnp.array([True, False]), jnp.float32).tolist()
    [1.0, 0.0]
    """
    check_values(name, x, lambda v: (v >= 0) & (v <= 1), "from 0 to 1")
    x = x.astype(dtype)
    return jnp.where((x >= 0) & (x <= 1), x, jnp.nan)


def signs(name: str, x: Array, dtype: DTypeLike) -> Float[Array, "..."]:
    """Returns x as floats that are +1 or −1, NaN for what is neither.

    Raises:
      ValueError: a value is neither (where values are known), or x is boolean, which has no −1.

    >>> signs("targets", jnp.array([0, 1]), jnp.float32)
    Traceback (most recent call last):
    ValueError: targets[0]=0 is not allowed: targets must be 1 or -1
    """
    if x.dtype == jnp.bool_:
        raise ValueError(f"{name} {described(x)} must be numbers, 1 or -1")
    check_values(name, x, lambda v: abs(v) == 1, "1 or -1")
    x = x.astype(dtype)
    return jnp.where(jnp.abs(x) == 1, x, jnp.nan)


def check_log_probabilities(name: str, x: Array) -> None:
    """Raises ValueError where the logarithm of a probability is above 0: probabilities or logits were given instead. Not under jit.

    >>> check_log_probabilities("log_probabilities", jnp.array([0.5]))
    Traceback (most recent call last):
    ValueError: log_probabilities[0]=0.5 is not allowed: log_probabilities must be at most 0, as from jax.nn.log_softmax
    """
    # An honest logarithm may round to a little above 0.
    check_values(name, x, lambda v: ~(v > 1e-3), "at most 0, as from jax.nn.log_softmax")
