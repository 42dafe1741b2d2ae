"""Metrics of verification, over a whole test set of pairs: does a small distance tell that both are of one class? Label 1: they are."""

from typing import NamedTuple

import numpy as np

from cnn_jax.ops.arguments import check_array


class Verification(NamedTuple):
    """The distance [n] of each pair, and whether both of it are of one class [n]."""

    distances: np.ndarray
    same: np.ndarray

    @property
    def decidable(self) -> bool:
        return bool(np.isfinite(self.distances).all() and self.same.any() and not self.same.all())


def verification_report(distances: np.ndarray, labels: np.ndarray) -> Verification:
    """Returns what the metrics of verification read.

    Args:
      distances: [n].
      labels: [n], 1 for a pair of one class, 0 for others.

    Raises:
      ValueError: distances are not [n], or labels not zeros and ones [n].

    >>> verification_report(np.array([0.5]), np.array([1])).same.tolist()
    [True]
    """
    distances, labels = np.asarray(distances), np.asarray(labels)
    check_array("distances", distances)
    if distances.ndim != 1 or labels.shape != distances.shape or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"distances {list(distances.shape)} but labels {list(labels.shape)}: both must be [n], labels 0 or 1")
    return Verification(distances.astype(np.float64), labels == 1)


def roc_auc(verification: Verification) -> float:
    """Returns the share of (same, different) couples of pairs of which the same-class one is nearer, ties counted half: the ROC's area.

    NaN where there is no pair of one kind, or a distance is not finite.

    Reference: Fawcett, "An introduction to ROC analysis", 2006.

    >>> roc_auc(verification_report(np.array([0.1, 0.4, 0.3, 0.9]), np.array([1, 1, 0, 0])))
    0.75
    """
    distances, same = verification
    if not verification.decidable:
        return float("nan")
    different = np.sort(distances[~same])
    below = np.searchsorted(different, distances[same], side="left")
    up_to = np.searchsorted(different, distances[same], side="right")
    return float((len(different) - (below + up_to) / 2).mean() / len(different))


def equal_error_rate(verification: Verification) -> float:
    """Returns the rate at which as many different pairs are accepted as same ones are refused, between thresholds on a straight line.

    NaN as for `roc_auc`.

    >>> equal_error_rate(verification_report(np.array([0.1, 0.4, 0.3, 0.9]), np.array([1, 1, 0, 0])))
    0.5
    """
    distances, same = verification
    if not verification.decidable:
        return float("nan")
    accepted, refused = _error_rates(distances, same)
    crossing = np.flatnonzero(accepted >= refused)[0]
    if crossing == 0:
        return float(accepted[0])
    before, after = crossing - 1, crossing
    rise, fall = accepted[after] - accepted[before], refused[before] - refused[after]
    share = (refused[before] - accepted[before]) / (rise + fall)
    return float(accepted[before] + share * rise)


def verification_accuracy(verification: Verification, *, folds: int = 10) -> float:
    """Returns the share of pairs judged rightly; the threshold for each of `folds` parts is the best one of all other parts.

    Parts are of consecutive pairs. NaN where a distance is not finite.

    Raises:
      ValueError: `folds` is not from 2 to n.

    Reference: Huang et al., "Labeled faces in the wild", 2007, the restricted protocol.

    >>> verification_accuracy(verification_report(np.array([0.1, 0.9, 0.2, 0.8]), np.array([1, 0, 1, 0])), folds=2)
    1.0
    """
    distances, same = verification
    if not 2 <= folds <= len(distances):
        raise ValueError(f"folds={folds} must be from 2 to the number of pairs ({len(distances)})")
    if not np.isfinite(distances).all():
        return float("nan")
    part = np.arange(len(distances)) * folds // len(distances)
    right = 0
    for fold in range(folds):
        threshold = _best_threshold(distances[part != fold], same[part != fold])
        right += ((distances[part == fold] <= threshold) == same[part == fold]).sum()
    return float(right / len(distances))


def _best_threshold(distances: np.ndarray, same: np.ndarray) -> float:
    """Halfway between two neighbouring distances, where fewest are judged wrongly; the middle one among equals."""
    values = np.unique(distances)
    edges = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    wrong = np.searchsorted(np.sort(distances[~same]), edges) + same.sum() - np.searchsorted(np.sort(distances[same]), edges)
    best = np.flatnonzero(wrong == wrong.min())
    return float(edges[best[len(best) // 2]])


def _error_rates(distances: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(different accepted, same refused) as shares, at thresholds from below all distances to the largest."""
    thresholds = np.concatenate([[-np.inf], np.unique(distances)])
    accepted = np.searchsorted(np.sort(distances[~same]), thresholds, side="right") / (~same).sum()
    refused = 1 - np.searchsorted(np.sort(distances[same]), thresholds, side="right") / same.sum()
    return accepted, refused

