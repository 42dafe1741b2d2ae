"""Examples that cannot be used: counted, recorded with the reason, and too many of them refused."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnn_jax import processes
from cnn_jax.data.source import DecodedSource, Source
from cnn_jax.errors import UserError
from cnn_jax.lines import Lines

_SHOWN = 5  # of a split's bad examples are told of one by one


class BadExamples:
    """The examples of a run that cannot be used. Each is recorded once, also when the run is continued.

    Args:
      path: of the records, JSON lines of split, example, name and reason; processes but the first have files of their own beside it, and
        each reads what the others have found when it finds one.
      max_fraction: of a split, which may be bad.
      say: tells a person.

    >>> import tempfile
    >>> bad = BadExamples(Path(tempfile.mkdtemp(), "bad_examples.jsonl"), max_fraction=0.5)
    >>> bad.found("train")
    0
    """

    def __init__(self, path: Path, *, max_fraction: float, say: Callable[[str], None] = print):
        files = [path, *(path.with_stem(f"{path.stem}_{i}") for i in range(1, processes.count()))]
        self.lines = Lines(files.pop(processes.index()))
        self.others = [Lines(path) for path in files]
        self.max_fraction, self.say = max_fraction, say
        self._known: dict[str, set[int]] = {}
        with contextlib.suppress(OSError):  # whoever cannot read them finds them again
            self.lines.keep(self._remember)

    def found(self, split: str) -> int:
        """Returns how many of a split are known to be bad."""
        return len(self._known.get(split, ()))

    def of(self, split: str, source: Source) -> Callable[[np.ndarray], None]:
        """Returns what is to be called with the places of bad examples, as they come.

        Raises (when called):
          UserError: there are more of them than may be.
        """

        def note(places: np.ndarray) -> None:
            known, bad = self._known.setdefault(split, set()), {int(place) for place in places}
            if bad - known:
                self._hear_of_others()
            for place in sorted(bad - known):
                known.add(place)
                name, why = described(source, place)
                if len(known) <= _SHOWN:
                    more = f"; further ones are only in {self.lines.path}" if len(known) == _SHOWN else ""
                    self.say(f"WARNING: {split} example {place} ({name}) is replaced by another: {why}{more}")
                with contextlib.suppress(OSError):  # kept, and written with the next
                    self.lines.add({"split": split, "example": place, "name": name, "why": why})
            if len(known) > self.max_fraction * len(source):
                raise UserError(
                    f"{len(known)} of {len(source):,} {split} examples cannot be used, more than max_bad_fraction={self.max_fraction}; "
                    f"they are listed in {self.lines.path}. Mend or remove them, or allow more with --set max_bad_fraction."
                )

        return note

    def _hear_of_others(self) -> None:
        for lines in self.others:
            with contextlib.suppress(OSError):  # it has found none, or cannot be read now
                lines.wanted(self._remember)

    def _remember(self, record: dict) -> bool:
        self._known.setdefault(record["split"], set()).add(record["example"])
        return True


def described(source: Source, place: int) -> tuple[str, str]:
    """Returns (name, reason) of an example that cannot be used, which is read once more for that."""
    return name_of(source, place), source.fault(place) or "it can be used now"


def name_of(source: Source, place: int) -> str:
    """Returns what a person finds an example by: its file, or else its place."""
    records = getattr(source, "records", None)
    return records.name(source.place_of(place)) if hasattr(records, "name") else f"number {place}"


def check_labels(source: Source, split: str, num_classes: int) -> None:
    """Raises UserError if a label of data in memory is none of the classes: the loss of it would be no number.

    >>> from cnn_jax.data.source import MemorySource
    >>> check_labels(MemorySource(np.zeros((3, 1, 1, 1)), np.array([0, 7, -1])), "train", 5)
    Traceback (most recent call last):
    cnn_jax.errors.UserError: 2 of 3 train labels are none of the 5 classes, 0 to 4: example 1 has 7, example 2 has -1.
    """
    if isinstance(source, DecodedSource):
        return  # each is looked at when it is decoded
    wrong = np.flatnonzero((source.labels < 0) | (source.labels >= num_classes))
    if len(wrong):
        first = ", ".join(f"example {i} has {source.labels[i]}" for i in wrong[:5])
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(
            f"{len(wrong)} of {len(source)} {split} labels are none of the {num_classes} classes, 0 to {num_classes - 1}: {first}{more}."
        )
