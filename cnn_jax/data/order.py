"""Which examples make which batch: a pure function of (seed, step), whatever the number of devices or processes."""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)  # neighbouring batches share an epoch, or straddle two
def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """Returns the order of one epoch, a permutation of range(num_examples).

    >>> sorted(epoch_order(0, 1, 4).tolist())
    [0, 1, 2, 3]
    """
    order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_examples)
    order.flags.writeable = False  # it is shared by the cache
    return order


def batch_indices(seed: int, step: int, batch_size: int, num_examples: int) -> np.ndarray:
    """Returns the examples of the batch that makes update `step` + 1: a slice of the endless stream of epochs.

    Every batch is full; one at the end of an epoch is completed from the next, and may be longer than an epoch.

    >>> np.concatenate([batch_indices(0, step, 3, 4) for step in range(4)]).reshape(3, 4).sum(1).tolist()
    [6, 6, 6]
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, places = np.divmod(positions, num_examples)
    indices = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = epoch_order(seed, int(epoch), num_examples)[places[here]]
    return indices
