"""How two trees of arrays differ, for people to read."""

import jax
import numpy as np

from cnn_jax.types import PyTree


def tree_difference(saved: dict[str, tuple], wanted: dict[str, tuple], *, most: int = 12) -> str:
    """Returns a line for each array that is missing, unexpected, or of another shape or type; "" if there is none.

    >>> print(tree_difference({"a": ((2,), "float32")}, {"a": ((3,), "float32"), "b": ((), "int32")}))
      a: saved (2,) float32, this model (3,) float32
      b: not in the checkpoint, this model () int32
    """
    lines = []
    for name in sorted({*saved, *wanted}):
        if saved.get(name) == wanted.get(name):
            continue
        there, here = (f"{t[name][0]} {t[name][1]}" if name in t else None for t in (saved, wanted))
        before = f"saved {there}" if there else "not in the checkpoint"
        lines.append(f"  {name}: {before}, {f'this model {here}' if here else 'not in this model'}")
    if len(lines) > most:
        lines[most:] = [f"  … and {len(lines) - most} more"]
    return "\n".join(lines)


def shapes(tree: PyTree) -> dict[str, tuple]:
    """Returns {name: (shape, type)} of a tree's arrays.

    >>> shapes({"a": [np.zeros(2)]})
    {'a/0': ((2,), 'float64')}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape") and hasattr(x, "dtype"))
    return {name_of(path): (tuple(leaf.shape), np.dtype(leaf.dtype).name) for path, leaf in leaves}


def name_of(path: tuple) -> str:
    """Returns a place in a tree as text: one spelling for attributes, keys and indices, since orbax turns all of them into keys."""
    return "/".join(str(getattr(p, "name", getattr(p, "key", getattr(p, "idx", p)))) for p in path)
