"""Agreement of clusters with labels, by the definition of mutual information and by scikit-learn's expected one."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from cnn_jax.metrics.clustering import Clustering, ami, clustering_report, nmi

LABELS = np.array([0, 0, 0, 3, 3, 1, 1, 1])
CLUSTERS = np.array([2, 2, 0, 0, 0, 1, 2, 1])


def entropy(values):
    shares = [np.mean(values == value) for value in set(values.tolist())]
    return -sum(p * np.log(p) for p in shares)


def mutual_information(a, b):
    total = 0.0
    for x in set(a.tolist()):
        for y in set(b.tolist()):
            both = np.mean((a == x) & (b == y))
            total += both * np.log(both / (np.mean(a == x) * np.mean(b == y))) if both else 0
    return total


def test_nmi_is_mutual_information_over_the_mean_entropy():
    expected = 2 * mutual_information(LABELS, CLUSTERS) / (entropy(LABELS) + entropy(CLUSTERS))
    assert nmi(Clustering(LABELS, CLUSTERS)) == pytest.approx(expected, rel=1e-12)
    assert nmi(Clustering(LABELS, CLUSTERS)) == pytest.approx(normalized_mutual_info_score(LABELS, CLUSTERS), rel=1e-12)


def test_ami_takes_off_what_chance_gives():
    labels, clusters = LABELS[:6], CLUSTERS[:6]
    by_chance = np.mean([mutual_info_score(labels, np.array(shuffled)) for shuffled in permutations(clusters.tolist())])
    found, most = mutual_information(labels, clusters), (entropy(labels) + entropy(clusters)) / 2
    assert ami(Clustering(labels, clusters)) == pytest.approx((found - by_chance) / (most - by_chance), rel=1e-9)


def test_clusters_find_classes_that_lie_apart():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([4, 7, 9], [30, 12, 5]))
    centres = {4: [0.0, 9.0], 7: [5.0, -3.0], 9: [-8.0, 1.0]}
    x = np.array([centres[label] for label in labels]) + 0.3 * rng.normal(size=(47, 2))
    found = clustering_report(x, labels)
    assert nmi(found) == ami(found) == pytest.approx(1)
    np.testing.assert_array_equal(found.clusters, clustering_report(x, labels).clusters)
    noise = clustering_report(rng.normal(size=(47, 2)), labels)
    assert abs(ami(noise)) < 0.15 < nmi(found)


def test_degenerate_embeddings():
    assert nmi(clustering_report(np.ones((6, 2)), np.array([0, 0, 1, 1, 2, 2]))) == 0
    assert nmi(clustering_report(np.random.default_rng(0).normal(size=(5, 2)), np.zeros(5, int))) == 1
    assert np.isnan(nmi(clustering_report(np.full((3, 2), np.nan), np.arange(3))))
    assert np.isnan(ami(clustering_report(np.ones((0, 2)), np.ones(0, int))))
    with pytest.raises(ValueError, match=r"embeddings \[3, 2\] but labels \[2\]: labels must be \[3\]"):
        clustering_report(np.ones((3, 2)), np.arange(2))
