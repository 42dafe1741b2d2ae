"""The options of a registered function or module: what may be set, of which type, read from its signature."""

import inspect
import math
import operator
import types
import typing
from collections.abc import Callable
from functools import reduce
from typing import Any, Literal, NamedTuple, Union

from cnn_jax.errors import UserError

# Given by the program, not by the user.
_PROVIDED = {"num_outputs", "dtype", "axis_name", "where", "parent", "name"}
_PROVIDED_TO_MODULES = {"num_classes"}  # of a loss with class vectors; a data set's is an option
_PLAIN = (bool, int, float, str)


class Option(NamedTuple):
    """The type and the default of one option."""

    type: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def options(function: Callable[..., Any]) -> dict[str, Option]:
    """Returns what can be set on a registered function: its keyword-only arguments, or the plain fields of a module.

    >>> def blur(image, *, sigma: float = 1.0, where=None): ...
    >>> options(blur)
    {'sigma': Option(type=<class 'float'>, default=1.0)}

    Of a union the parts count that can be written as text, so that an option may also take arrays:

    >>> def weigh(losses, *, weights: tuple[float, ...] | Callable | None = None): ...
    >>> describe_type(options(weigh)["weights"].type)
    'number,number,… or none'
    """
    target = function.func if hasattr(function, "func") else function
    is_module = inspect.isclass(target)
    found = {}
    for p in inspect.signature(function).parameters.values():
        kind = _settable_part(p.annotation)
        provided = p.name in _PROVIDED or (is_module and p.name in _PROVIDED_TO_MODULES)
        if not provided and (is_module or p.kind is p.KEYWORD_ONLY) and kind is not None:
            found[p.name] = Option(kind, p.default)
    return found


def reads(function: Callable[..., Any]) -> str:
    """Returns the name of the first argument, which says what a loss or metric reads: logits, embeddings or scores.

    >>> reads(lambda logits, labels: logits)
    'logits'
    """
    return next(iter(_call_parameters(function)))


def takes(function: Callable[..., Any], name: str) -> bool:
    """Returns whether a loss can be given something, such as `references` or a `miner`: when it is called, or a module when it is made.

    >>> takes(lambda embeddings, labels, *, miner=None: labels, "miner"), takes(lambda logits, labels: logits, "miner")
    (True, False)
    """
    return name in {*_call_parameters(function), *inspect.signature(function).parameters}


def _call_parameters(function: Callable[..., Any]) -> list[str]:
    """The names of what a function is called with, or a module once it is made."""
    if inspect.isclass(function):
        return list(inspect.signature(function.__call__).parameters)[1:]  # without self
    return list(inspect.signature(function).parameters)


def describe_type(kind: Any) -> str:
    """Returns a type as a user reads it.

    >>> describe_type(tuple[int, ...]), describe_type(int | None), describe_type(Literal["a", "b"])
    ('int,int,…', 'int or none', 'a or b')
    """
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    if _is_union(kind):
        return " or ".join("none" if part is types.NoneType else describe_type(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"{describe_type(typing.get_args(kind)[0])},{describe_type(typing.get_args(kind)[0])},…"
    return {bool: "true or false", float: "number"}.get(kind, getattr(kind, "__name__", str(kind)))


def parse(text: str, kind: Any, key: str) -> Any:
    """Returns the value that `text` stands for.

    >>> parse("1e-3", float, "learning_rate"), parse("none", int | None, "every"), parse("2,2", tuple[int, ...], "sizes")
    (0.001, None, (2, 2))

    Raises:
      UserError: it is not of that type; names key, text and type.
    """
    try:
        return _parse(text.strip(), kind)
    except ValueError:
        raise wrong_type(key, text, kind) from None


def wrong_type(key: str, value: Any, kind: Any) -> UserError:
    """Returns the error for a value of another type.

    >>> str(wrong_type("batch_size", "many", int))
    "batch_size='many' is not of type int. Write --set batch_size=3, for example."
    """
    return UserError(f"{key}={value!r} is not of type {describe_type(kind)}. Write --set {key}={_example(kind)}, for example.")


def fits(value: Any, kind: Any) -> bool:
    """Returns whether a value is of the type an option declares; an int serves as a float, a bool never as a number.

    >>> fits(1, float), fits(True, int), fits((1, 2), tuple[int, ...])
    (True, False, True)
    """
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if _is_union(kind):
        return any(fits(value, part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(fits(v, typing.get_args(kind)[0]) for v in value)
    if kind is types.NoneType:
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _settable_part(kind: Any) -> Any:
    """The type, or what of a union can be written as text; None where nothing can."""
    if _is_union(kind):
        parts = [part for part in typing.get_args(kind) if part is types.NoneType or _settable_part(part) is not None]
        return reduce(operator.or_, parts) if any(part is not types.NoneType for part in parts) else None
    plain = typing.get_origin(kind) is Literal or kind in _PLAIN
    of_plain = typing.get_origin(kind) is tuple and _settable_part(typing.get_args(kind)[0]) is not None
    return kind if plain or of_plain else None


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (Union, types.UnionType)


def _parse(text: str, kind: Any) -> Any:
    if typing.get_origin(kind) is Literal:
        if text not in typing.get_args(kind):
            raise ValueError
        return text
    if _is_union(kind):
        parts = typing.get_args(kind)
        if types.NoneType in parts and text.lower() == "none":
            return None
        return _parse(text, next(part for part in parts if part is not types.NoneType))
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_parse(part.strip(), inner) for part in text.strip("()[]").split(",") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    if kind is float and not math.isfinite(float(text)):
        raise ValueError
    return kind(text)


def _example(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return str(typing.get_args(kind)[0])
    if _is_union(kind):
        return _example(next(part for part in typing.get_args(kind) if part is not types.NoneType))
    if typing.get_origin(kind) is tuple:
        return f"{_example(typing.get_args(kind)[0])},{_example(typing.get_args(kind)[0])}"
    return {bool: "true", int: "3", float: "0.1", str: "text"}[kind]
