"""Splits of examples that keep each class's share."""

import numpy as np


def stratified(labels: np.ndarray, *, test_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns (train, test), sorted indices; always the same ones for the same labels.

    >>> train, test = stratified(np.array([0, 0, 0, 0, 1, 1, 1, 1]), test_share=0.25)
    >>> len(test), sorted(np.array([0, 0, 0, 0, 1, 1, 1, 1])[test].tolist())
    (2, [0, 1])
    """
    from sklearn.model_selection import train_test_split  # a second to import, needed once

    train, test = train_test_split(np.arange(len(labels)), test_size=test_share, stratify=labels, random_state=0)
    return np.sort(train), np.sort(test)
