"""What the fields of a network and its images must be; each network's own checks tell their ranges."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.ops.arguments import check_array, check_dtype, is_number, is_several, is_whole
from cnn_jax.options import describe_type


def check_network(network: nn.Module, x: jax.Array) -> None:
    """Raises ValueError unless the network's fields are of the types they declare, and x are float images [b, h, w, c], not empty.

    >>> from cnn_jax.models.lenet import LeNet5
    >>> check_network(LeNet5(num_outputs=10), jnp.zeros((28, 28, 1)))
    Traceback (most recent call last):
    ValueError: x must be [b, h, w, c] floats and not empty, got float32 (28, 28, 1)
    """
    for field in dataclasses.fields(network):
        value = getattr(network, field.name)
        if not _fits(value, field.type):
            raise ValueError(f"{field.name}={value!r} must be of type {describe_type(field.type)}")
    if not is_whole(network.num_outputs) or network.num_outputs < 0:
        raise ValueError(f"num_outputs={network.num_outputs!r} must be at least 1, or 0 for no head, a whole number")
    check_dtype("dtype", network.dtype)
    check_array("x", x)
    if x.ndim != 4 or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        hint = ": divide by 255" if x.dtype == jnp.uint8 else ""
        raise ValueError(f"x must be [b, h, w, c] floats and not empty, got {x.dtype} {x.shape}{hint}")


def _fits(value: Any, kind: Any) -> bool:
    """As `options.fits`, with numbers of NumPy too; words are left to the network, which names those it knows."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return is_several(value) and all(_fits(v, typing.get_args(kind)[0]) for v in value)
    if kind is types.NoneType:
        return value is None
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if typing.get_origin(kind) is Callable:
        return callable(value)
    if kind is float:
        return is_number(value) and not isinstance(value, jax.Array | np.ndarray)
    return kind is not int or is_whole(value)
