"""How well clusters of embeddings, found without their labels, agree with them."""

import warnings
from typing import NamedTuple

import numpy as np

from cnn_jax.metrics.neighbours import rows_of

_SEED = 0  # of the first centres: figures of one model are the same each time


class Clustering(NamedTuple):
    """The label [n] and the cluster [n] of each embedding; clusters are −1 where embeddings are not finite."""

    labels: np.ndarray
    clusters: np.ndarray


def clustering_report(embeddings: np.ndarray, labels: np.ndarray) -> Clustering:
    """Returns the embeddings in as many k-means clusters as there are labels, first centres by k-means++ with a fixed seed.

    Time is that of up to 300 passes over n · classes · e: of all evaluation the longest where classes are many.

    Args:
      embeddings: [n, e].
      labels: ints [n].

    Raises:
      ValueError: labels are not [n].

    >>> clustering_report(np.array([[0.0], [9.0], [0.1]]), np.array([4, 4, 7])).clusters.tolist() in ([0, 1, 0], [1, 0, 1])
    True
    """
    from sklearn.cluster import KMeans  # a second to import
    from sklearn.exceptions import ConvergenceWarning

    embeddings, labels = rows_of("embeddings", embeddings), np.asarray(labels)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings {list(embeddings.shape)} but labels {list(labels.shape)}: labels must be [{len(embeddings)}]")
    if not len(labels) or not np.isfinite(embeddings).all():
        return Clustering(labels, np.full(len(labels), -1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct embeddings than labels: the figures say so
        kmeans = KMeans(len(np.unique(labels)), n_init=1, random_state=_SEED)
        return Clustering(labels, kmeans.fit_predict(embeddings))


def nmi(clustering: Clustering) -> float:
    """Returns the mutual information of labels and clusters over the mean of their entropies, from 0 to 1; NaN if not finite.

    It grows with the number of clusters, also of random ones; `ami` does not.

    Args:
      clustering: from `clustering_report`.

    Reference: Strehl and Ghosh, "Cluster ensembles", 2002, with scikit-learn's arithmetic mean.

    >>> nmi(Clustering(np.array([4, 4, 7, 7]), np.array([1, 1, 0, 0])))
    1.0
    """
    return _score("normalized_mutual_info_score", clustering)


def ami(clustering: Clustering) -> float:
    """Returns the mutual information of labels and clusters adjusted for chance: 1 where they agree, 0 on average for random ones.

    Reference: Vinh et al., "Information theoretic measures for clusterings comparison", 2010.

    >>> ami(Clustering(np.array([4, 4, 7, 7]), np.array([1, 1, 0, 0])))
    1.0
    """
    return _score("adjusted_mutual_info_score", clustering)


def _score(name: str, clustering: Clustering) -> float:
    import sklearn.metrics

    if (clustering.clusters < 0).any() or not len(clustering.clusters):
        return float("nan")
    return float(getattr(sklearn.metrics, name)(clustering.labels, clustering.clusters))
