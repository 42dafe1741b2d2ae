"""What was measured since the last log: sums and counts of updates, added one after the other."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cnn_jax.types import PyTree

_UNLOGGED = ("confusion", "skipped", "asked")  # a whole matrix, and codes


class Window:
    """The means over the updates since the last log. It is saved with the state, so that a run that continues logs what it would have.

    Sums are float64, and each update is added by itself: however updates come in chunks, or are cut in two runs, the bits are the same.

    Args:
      saved: what `saved` gave, of the run that is continued; None for an empty window.

    >>> from cnn_jax.metrics.mean import Mean
    >>> window = Window()
    >>> window.add(1, 2, {"loss": Mean(np.array([2.0, 4.0]), np.array([1, 1])), "skipped": np.array([0, 0])})
    >>> list(window.fold()), window.means()
    ([], {'loss': 3.0})
    """

    def __init__(self, saved: dict[str, Any] | None = None):
        saved = saved or {"skipped": 0, "sums": {}}
        self._skipped: int = saved["skipped"]
        self._sums: dict[str, list] = {name: [_wide(np.asarray(leaf)) for leaf in leaves] for name, leaves in saved["sums"].items()}
        self._structures: dict[str, Any] = {}
        self._pending: list[tuple[int, int, Mapping[str, PyTree]]] = []
        self._asked = False

    def add(self, first: int, num: int, measures: Mapping[str, PyTree]) -> None:
        """Adds the measures [size, …] of `num` updates, the first of which makes step `first`. They may still be computed."""
        self._pending.append((first, num, measures))

    def wait(self) -> None:
        """Returns when all but the last measures that were added are there."""
        if len(self._pending) > 1:
            jax.block_until_ready(self._pending[-2][2])

    def asked(self) -> bool:
        """Returns whether a process was asked to end when one of the updates was handed over whose measures are there, as after `wait`."""
        for _, num, measures in self._pending[:-1][-1:]:
            self._asked |= bool(np.asarray(measures["asked"])[:num].any())
        return self._asked

    def fold(self) -> Iterator[tuple[int, int]]:
        """Adds up what is pending, and yields (step, code) of each update that was left out; codes are `step.LEFT_OUT`'s."""
        pending, self._pending = jax.device_get(self._pending), []
        for first, num, measures in pending:
            self._asked |= bool(np.any(measures.get("asked", False)))
            flat = {name: jax.tree.flatten(value) for name, value in measures.items() if name not in _UNLOGGED}
            self._structures = {name: structure for name, (_, structure) in flat.items()}
            # A run may be continued with other metrics than it was saved with.
            self._sums = {name: sums for name, sums in self._sums.items() if name in flat and len(flat[name][0]) == len(sums)}
            for i in range(num):
                if code := int(measures["skipped"][i]):
                    self._skipped += 1
                    yield first + i, code
                for name, (leaves, _) in flat.items():
                    row = [_wide(leaf[i]) for leaf in leaves]
                    self._sums[name] = [a + b for a, b in zip(self._sums[name], row, strict=True)] if name in self._sums else row

    def means(self) -> dict[str, float]:
        """Returns the means of what is folded, how many updates were skipped, if any, and empties the window.

        A diagnosis that was never made is not among them.
        """
        sums, self._sums = self._sums, {}
        skipped, self._skipped = self._skipped, 0
        means = {name: jax.tree.unflatten(self._structures[name], leaves).result() for name, leaves in sums.items()}
        means = {name: mean for name, mean in means.items() if not ("/" in name and np.isnan(mean))}
        return means | ({"skipped": skipped} if skipped else {})

    def saved(self) -> dict[str, Any]:
        """Returns the sums of what is folded as JSON, without loss: what a `Window` is made of again."""
        sums = {name: [np.asarray(leaf).tolist() for leaf in leaves] for name, leaves in self._sums.items()}
        return {"skipped": self._skipped, "sums": sums}


def is_window(saved: Any) -> bool:
    """Returns whether something can be what `Window.saved` gave, or None.

    >>> is_window(None), is_window(Window().saved()), is_window([1])
    (True, True, False)
    """
    try:
        Window(saved)
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return True


def _wide(value: np.ndarray) -> np.ndarray:
    return np.asarray(value, np.float64 if np.issubdtype(value.dtype, np.floating) else np.int64)
