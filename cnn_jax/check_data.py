"""`--mode=check_data`: every example read once: which cannot be used, and which test images are in the train split too."""

import hashlib
from collections.abc import Iterator

from cnn_jax.build import build
from cnn_jax.data.faults import check_labels, name_of
from cnn_jax.data.source import Source
from cnn_jax.errors import UserError
from cnn_jax.experiment import Experiment
from cnn_jax.report import progress, say

_SHOWN = 10


def check_data(experiment: Experiment) -> None:
    """Reads all examples of an experiment's data, and says what is wrong with them.

    Images are the same if their files' contents are; of data in memory, if their pixels are.

    Raises:
      UserError: the settings do not work, or a test image is in the train split too.
    """
    dataset = build(experiment).dataset
    opened = dataset.decoded or dataset.open
    seen: dict[str, dict[bytes, list[int]]] = {}
    sources = {split: opened(split) for split in ("train", "test")}
    for split, source in sources.items():
        check_labels(source, split, dataset.num_classes)
        seen[split], faults = {}, []
        progress(f"reading {split}", _read(source, seen[split], faults), total=len(source))
        repeated = sum(len(places) - 1 for places in seen[split].values())
        say(f"{split}: {len(source):,} examples, {len(faults):,} that cannot be used, {repeated:,} repeated")
        for place, why in faults[:_SHOWN]:
            say(f"  {name_of(source, place)}: {why}")
        if len(faults) > _SHOWN:
            say(f"  and {len(faults) - _SHOWN:,} more")
    shared = seen["test"].keys() & seen["train"]
    both = sorted((place, seen["train"][content][0]) for content in shared for place in seen["test"][content])
    if both:
        for test, train in both[:_SHOWN]:
            say(f"  {name_of(sources['test'], test)} (test) is {name_of(sources['train'], train)} (train)")
        raise UserError(
            f"{len(both):,} of {len(sources['test']):,} test images are in the train split too. Figures of this test set flatter: remove "
            f"them from one of the two."
        )
    say("no test image is in the train split")


def _read(source: Source, seen: dict[bytes, list[int]], faults: list[tuple[int, str]]) -> Iterator[int]:
    for place in range(len(source)):
        why = source.fault(place)
        if why is None:
            seen.setdefault(hashlib.sha256(source.content(place)).digest(), []).append(place)
        else:
            faults.append((place, why))
        yield place + 1
