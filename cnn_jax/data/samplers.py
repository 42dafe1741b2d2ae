"""Which examples make a batch, by name: a sampler reads a split's labels and gives its order, a pure function of (seed, step).

An order is `order(seed, step) -> indices [batch_size]` of the batch that makes update `step` + 1; it can be sent to other processes.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from cnn_jax.data.order import batch_indices, epoch_order
from cnn_jax.data.source import Source
from cnn_jax.errors import UserError

Order = Callable[[int, int], np.ndarray]  # an order of a data set: (seed, step) -> indices of a batch


def shuffled(source: Source, batch_size: int) -> Order:
    """Returns the order in which every epoch holds every example once, shuffled; batches are slices of the endless stream of epochs.

    >>> from cnn_jax.data.source import MemorySource
    >>> order = shuffled(MemorySource(np.zeros((4, 1, 1, 1)), np.zeros(4)), 4)
    >>> sorted(order(0, 7).tolist())
    [0, 1, 2, 3]
    """
    return partial(_slice, len(source), batch_size)


def classes_by_images(source: Source, batch_size: int, *, num_images: int = 4) -> Order:
    """Returns the order whose batches hold P = batch_size / K classes with K = `num_images` images each.

    Classes, and the images of each, follow endless shuffled streams of their own: all classes come equally often, and within a class all
    images. Where P does not divide the classes, or K a class's images, the last few of an epoch are left out of it, so that no image is
    twice in a batch. A class of fewer than K images gives them all, then repeats them.

    Raises:
      UserError: K does not divide the batch size, or there are fewer than P classes.

    Reference: Hermans et al., "In defense of the triplet loss", 2017, section 2 (PK batches).

    >>> from cnn_jax.data.source import MemorySource
    >>> labels = np.array([0, 0, 0, 1, 1, 2])
    >>> order = classes_by_images(MemorySource(np.zeros((6, 1, 1, 1)), labels), 4, num_images=2)
    >>> np.unique(labels[order(0, 5)], return_counts=True)[1].tolist()
    [2, 2]
    """
    members = _members(source.labels)
    num_classes = _number("classes", num_images, batch_size, len(members))
    return partial(_classes_by_images, members, num_classes, num_images)


def groups_by_classes(source: Source, batch_size: int, *, num_groups: int = 1, num_images: int = 4) -> Order:
    """Returns the hierarchical order: G = `num_groups` groups of classes a batch, P = batch_size / (G·K) classes of each, K images of each.

    Negatives of the same group are the hard ones: two bicycles rather than a bicycle and a sofa. A group of fewer than P classes repeats
    them, with other images of theirs. Streams are as in `classes_by_images`.

    Raises:
      UserError: the data set has no groups, G·K does not divide the batch size, or there are fewer than G groups.

    Reference: PyTorch Metric Learning's HierarchicalSampler; Oh Song et al. 2016 for the data set it is made for.

    >>> from cnn_jax.data.source import MemorySource
    >>> labels, groups = np.arange(8) // 2, np.arange(8) // 4
    >>> order = groups_by_classes(MemorySource(np.zeros((8, 1, 1, 1)), labels, groups), 4, num_groups=1, num_images=2)
    >>> len(set(groups[order(0, 3)].tolist())), len(set(labels[order(0, 3)].tolist()))
    (1, 2)
    """
    if source.groups is None:
        raise UserError("sampler=groups_by_classes needs a data set whose classes form groups, such as stanford_online_products. "
                        "Use --set sampler=classes_by_images.")  # fmt: skip
    if num_groups < 1 or batch_size % num_groups:
        raise UserError(f"sampler.num_groups={num_groups} must be a divisor of batch_size={batch_size}.")
    group_of = dict(zip(source.labels.tolist(), source.groups.tolist(), strict=True))
    members = _members(source.labels)
    classes = list(_members(np.array([group_of[label] for label in np.unique(source.labels).tolist()])))
    if len(classes) < num_groups:
        raise UserError(f"sampler.num_groups={num_groups}, but the data set has {len(classes)} groups of classes.")
    num_classes = _number("classes of a group", num_images, batch_size // num_groups)
    return partial(_groups_by_classes, members, tuple(classes), num_groups, num_classes, num_images)


def _slice(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    return batch_indices(seed, step, batch_size, num_examples)


def _classes_by_images(members: tuple[np.ndarray, ...], num_classes: int, num_images: int, seed: int, step: int) -> np.ndarray:
    classes, visits = _turn(seed, step, num_classes, len(members))
    return np.concatenate([_images(members, c, num_images, seed, visit) for c, visit in zip(classes, visits, strict=True)])


def _groups_by_classes(members, classes, num_groups: int, num_classes: int, num_images: int, seed: int, step: int) -> np.ndarray:
    parts = []
    for group, visit in zip(*_turn(seed, step, num_groups, len(classes)), strict=True):
        mine, visits = _turn(_stream(seed, group, 1), visit, num_classes, len(classes[group]))
        parts += [_images(members, classes[group][i], num_images, seed, visit) for i, visit in zip(mine, visits, strict=True)]
    return np.concatenate(parts)


def _images(members: tuple[np.ndarray, ...], c: int, num_images: int, seed: int, visit: int) -> np.ndarray:
    return members[c][_turn(_stream(seed, c, 0), visit, num_images, len(members[c]))[0]]


def _turn(seed: int, turn: int, num: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Which `num` of `total` things have this turn in their stream of shuffled epochs, and how often each had one before.

    None is twice in a turn where there are enough; where there are too few, all are in it, and then some again.
    """
    if num > total:
        epochs = np.arange(-(-num // total)) + turn * -(-num // total)
        return np.concatenate([epoch_order(seed, int(e), total) for e in epochs])[:num], np.repeat(epochs, total)[:num]
    epoch, place = divmod(turn, total // num)
    return epoch_order(seed, int(epoch), total)[place * num :][:num], np.full(num, epoch)


def _stream(seed: int, number: int, kind: int) -> int:
    """The seed of one of many independent streams."""
    return int(np.random.SeedSequence([seed, int(number), kind]).generate_state(1, np.uint64)[0])


def _members(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """The indices of each class's examples."""
    order = np.argsort(labels, kind="stable")
    return tuple(np.split(order, np.flatnonzero(np.diff(labels[order])) + 1))


def _number(what: str, num_images: int, batch_size: int, available: int | None = None) -> int:
    """How many classes of K images a batch, or a group's part of it, holds."""
    if num_images < 1 or batch_size % num_images:
        close = min((n for n in range(1, batch_size + 1) if batch_size % n == 0), key=lambda n: abs(n - num_images))
        raise UserError(
            f"sampler.num_images={num_images} must divide batch_size={batch_size}, for whole {what}. Add --set sampler.num_images={close}."
        )
    num = batch_size // num_images
    if available is not None and num > available:
        raise UserError(
            f"batch_size={batch_size} with sampler.num_images={num_images} asks for {num} {what}, but the train split has {available}. "
            f"Add --set batch_size={available * num_images}, or more images of each."
        )
    return num
