"""What an argument must be. Errors name the argument, its value and what is allowed.

Shapes and types are checked always. A number is checked where it is known: under jit, grad or vmap one that is traced passes.
"""

import numbers
import reprlib
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.errors import nearest
from cnn_jax.types import ArrayLike


def check_array(name: str, value: object) -> None:
    """Raises ValueError unless the value is an array, of jax or NumPy, of real numbers or booleans.

    >>> check_array("inputs", [1.0, 2.0])
    Traceback (most recent call last):
    ValueError: inputs must be an array of real numbers, got [1.0, 2.0] (list)
    """
    if _is_array(value, jnp.floating, jnp.integer, jnp.bool_):
        return
    got = f"{value.dtype} {value.shape}" if isinstance(value, ArrayLike) else f"{reprlib.repr(value)} ({type(value).__name__})"
    raise ValueError(f"{name} must be an array of real numbers, got {got}")


def check_number(name: str, value: object, allowed: Callable[[float], bool], rule: str) -> None:
    """Raises ValueError unless the value is a real number, which True is not, for which `allowed` holds; NaN is refused by comparing.

    >>> check_number("rate", 1.5, lambda rate: 0 <= rate <= 1, "from 0 to 1")
    Traceback (most recent call last):
    ValueError: rate=1.5 must be from 0 to 1
    """
    real = is_number(value)
    traced = isinstance(value, jax.core.Tracer)
    # Comparing a known array gives a traced one while another function is traced.
    if not real or not (traced or allowed(value.item() if isinstance(value, jax.Array) else value)):
        why = "" if real else f" ({type(value).__name__} is no number)"
        raise ValueError(f"{name}={reprlib.repr(value)} must be {rule}{why}")


def check_values(name: str, array: ArrayLike, allowed: Callable[[np.ndarray], np.ndarray], rule: str) -> None:
    """Raises ValueError for the first element of which `allowed` is not True; does nothing while the array is traced.

    >>> check_values("p", jnp.array([0.5, 2.0]), lambda p: p <= 1, "at most 1")
    Traceback (most recent call last):
    ValueError: p[1]=2.0 is not allowed: p must be at most 1
    """
    if isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True):
        return
    known = np.asarray(array)
    refused = np.argwhere(~allowed(known))
    if len(refused):
        place = tuple(refused[0].tolist())
        raise ValueError(f"{name}{list(place) if place else ''}={known[place]} is not allowed: {name} must be {rule}")


def check_flag(name: str, value: object) -> None:
    """Raises ValueError unless the value is True or False: words such as "no" would count as True.

    >>> check_flag("ceil_mode", "no")
    Traceback (most recent call last):
    ValueError: ceil_mode='no' must be True or False
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={reprlib.repr(value)} must be True or False")


def check_dtype(name: str, dtype: object) -> None:
    """Raises ValueError unless it is a type of floats, or None: weights would be rounded to zero in another.

    >>> check_dtype("dtype", "float23")
    Traceback (most recent call last):
    ValueError: dtype='float23' must be a type of floats, such as jnp.float32
    """
    try:
        floating = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except (TypeError, ValueError):
        floating = False
    if not floating:
        raise ValueError(f"{name}={dtype!r} must be a type of floats, such as jnp.float32")


def check_function(name: str, value: object, rule: str) -> None:
    """Raises ValueError unless the value can be called.

    >>> check_function("init", "he_normal", "a function (key, shape, dtype) -> array")
    Traceback (most recent call last):
    ValueError: init='he_normal' must be a function (key, shape, dtype) -> array
    """
    if not callable(value):
        raise ValueError(f"{name}={reprlib.repr(value)} must be {rule}")


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raises ValueError unless the value is a whole number of at least `least`.

    >>> check_whole("groups", 2.0)
    Traceback (most recent call last):
    ValueError: groups=2.0 must be a whole number of at least 1
    """
    if not is_whole(value) or value < least:
        raise ValueError(f"{name}={reprlib.repr(value)} must be a whole number of at least {least}")


def check_each_axis(name: str, values: object) -> None:
    """Raises ValueError unless the values are whole numbers of at least 1, in a sequence: one for each spatial axis.

    >>> check_each_axis("window", 3)
    Traceback (most recent call last):
    ValueError: window=3 must be a whole number of at least 1 for each spatial axis: (3, 3) in 2-D
    """
    if not is_several(values) or len(values) == 0 or not all(is_whole(n) and n >= 1 for n in values):
        raise ValueError(f"{name}={values!r} must be a whole number of at least 1 for each spatial axis: (3, 3) in 2-D")


def check_word(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raises ValueError unless the value is one of the words `allowed`; offers the nearest.

    >>> check_word("border", "reflct", ["zeros", "reflect"])
    Traceback (most recent call last):
    ValueError: border='reflct' is unknown (did you mean reflect?): zeros, reflect
    """
    if not isinstance(value, str) or value not in allowed:
        close = nearest(str(value), allowed)
        raise ValueError(f"{name}={value!r} is unknown{f' (did you mean {close[0]}?)' if close else ''}: {', '.join(allowed)}")


def is_whole(value: object) -> bool:
    """Returns whether a value is a whole number: an int of Python or NumPy, but no bool.

    >>> is_whole(3), is_whole(True), is_whole(3.0)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Returns whether a value is one real number, of Python, NumPy or jax; True is none.

    >>> is_number(0.5), is_number(True), is_number("0.5")
    (True, False, False)
    """
    if isinstance(value, ArrayLike):
        return value.ndim == 0 and _is_array(value, jnp.floating, jnp.integer)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_several(value: object) -> bool:
    """Returns whether a value is a sequence, such as a tuple, or an array of one axis at least; a word is none.

    >>> is_several((2, 2)), is_several(2), is_several("SAME")
    (True, False, False)
    """
    return (isinstance(value, Sequence) and not isinstance(value, str | bytes)) or getattr(value, "ndim", 0) > 0


def _is_array(value: object, *kinds) -> bool:
    return isinstance(value, ArrayLike) and any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
