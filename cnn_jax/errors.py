"""The one kind of error a user can cause, and how its message is put together."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend. `launch.py` prints the message, without a traceback, and exits with 1."""


class Stopped(Exception):
    """A run that was asked to end early, and has saved what it did. `launch.py` prints the message and exits with `EXIT_STOPPED`."""


# Exit code of a run that ended early as asked, and is continued by the same command: sysexits' EX_TEMPFAIL, "try again later".
EXIT_STOPPED = 75
# Exit code of a run that is stuck, or whose other processes are gone; the same command continues it: sysexits' EX_SOFTWARE.
EXIT_STUCK = 70


def shortened(text: object, limit: int = 200) -> str:
    """Returns the text, cut off where it is long, without control characters: what comes from a file may be anything.

    >>> shortened("a" * 500, 5), shortened("two" + chr(10) + "lines")
    ('aaaaa…', 'two lines')
    """
    text = "".join(c if c.isprintable() else " " for c in str(text)[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


def nearest(word: str, allowed: Iterable[str]) -> list[str]:
    """Returns up to three of `allowed` that look like `word`, nearest first; else those that it is a part of.

    >>> nearest("digits_resent", ["digits_resnet", "cifar10_resnet18"])
    ['digits_resnet']
    >>> nearest("hard", ["triplet_batch_hard", "contrastive"])
    ['triplet_batch_hard']
    """
    allowed = list(allowed)
    begun = [name for name in allowed if word and name.lower().startswith(f"{word.lower()}_")]
    close = begun or difflib.get_close_matches(word, allowed, n=3, cutoff=0.6)
    return close[:3] or [name for name in allowed if word and word.lower() in name.lower()][:3]


def unknown(kind: str, word: str, allowed: Iterable[str], way_out: str = "") -> UserError:
    """Returns the error for a name that is not among `allowed`: names the nearest ones, then all of them.

    >>> str(unknown("model", "resnet81", ["lenet5", "resnet18"]))
    "Unknown model 'resnet81'. Did you mean resnet18? Known: lenet5, resnet18."
    """
    allowed = list(allowed)
    close = nearest(word, allowed) if isinstance(word, str) else []
    parts = [f"Unknown {kind} {word!r}."]
    if close:
        parts.append(f"Did you mean {' or '.join(close)}?")
    parts.append(f"Known: {', '.join(allowed) or 'none'}.")
    if way_out:
        parts.append(way_out)
    return UserError(" ".join(parts))


def out_of_memory(error: Exception) -> str:
    """Returns what to do where memory has run out.

    >>> out_of_memory(MemoryError("no room for 3 GB")).startswith("Out of memory (no room for 3 GB). Lower batch_size")
    True
    """
    first = str(error).strip().splitlines()[0][:200] if str(error) else "no memory left"
    return (
        f"Out of memory ({first}). Lower batch_size or eval_batch_size, split batches with --set accumulate_steps=4, or choose a smaller "
        f"model. What was saved is intact."
    )
