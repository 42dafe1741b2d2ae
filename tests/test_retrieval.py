"""Retrieval metrics against ranking by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from cnn_jax.metrics import retrieval as r
from cnn_jax.metrics.neighbours import nearest_neighbours

FIGURES = ("r_precision", "map_at_r", "average_precision", "ndcg")


def make_case(n=40, e=5, seed=0):
    """Embeddings far from the origin (the expanded square must not cancel), unequal classes, two labels that stand alone."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.choice([3, 5, -2, 11], size=n - 2, p=[0.5, 0.3, 0.1, 0.1]), [8, 9]])
    return rng.normal(size=(n, e)) * np.linspace(0.3, 2, e) + 100 + 0.3 * labels[:, None], labels


def by_hand(query, label, places, place_labels):
    """Figures of one query by their definitions, in a loop over the ranks; ties count against it."""
    distances = [float(((query - place) ** 2).sum()) for place in places]
    order = sorted(range(len(places)), key=lambda i: (distances[i], place_labels[i] == label, i))
    hits = [place_labels[i] == label for i in order]
    num = sum(hits)
    if num == 0:
        return {"num_relevant": 0, "first_rank": np.nan} | dict.fromkeys(FIGURES, np.nan)
    precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return {
        "num_relevant": num,
        "first_rank": hits.index(True) + 1,
        "r_precision": precisions[num - 1],
        "map_at_r": sum(p for p, hit in zip(precisions[:num], hits, strict=False) if hit) / num,
        "average_precision": sum(p for p, hit in zip(precisions, hits, strict=True) if hit) / num,
        "ndcg": sum(hit / np.log2(i + 2) for i, hit in enumerate(hits)) / sum(1 / np.log2(i + 2) for i in range(num)),
    }


def assert_equal_by_hand(found, queries, labels, gallery=None, gallery_labels=None):
    for i, (query, label) in enumerate(zip(queries, labels, strict=True)):
        others = np.arange(len(queries)) != i
        places = (queries[others], labels[others]) if gallery is None else (gallery, gallery_labels)
        for name, value in by_hand(query, label, *places).items():
            np.testing.assert_allclose(getattr(found, name)[i], value, rtol=1e-12, err_msg=f"{name} of query {i}")


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_leave_one_out_equals_ranking_by_hand(block):
    x, labels = make_case()
    found = r.retrieval_report(x, labels, block=block)
    assert found.num_lone == 2
    assert_equal_by_hand(found, x, labels)
    np.testing.assert_array_equal(found.nearest, nearest_neighbours(x)[:, 0])


def test_a_gallery_equals_ranking_by_hand():
    x, labels = make_case(30)
    gallery, gallery_labels = make_case(55, seed=1)
    found = r.retrieval_report(x, labels, gallery=gallery, gallery_labels=gallery_labels, block=8)
    assert_equal_by_hand(found, x, labels, gallery, gallery_labels)
    assert found.num_lone == 0
    # A query that is in the gallery is no neighbour of itself only where it is left out.
    assert (r.retrieval_report(x, labels, gallery=x, gallery_labels=labels).first_rank == 1).all()


def test_figures_equal_scikit_learns():
    x, labels = make_case(60, seed=2)
    found = r.retrieval_report(x, labels)
    expected_precision, expected_gain = [], []
    for i in np.flatnonzero(found.counted):
        others = np.arange(len(x)) != i
        relevant, scores = (labels == labels[i])[others], -np.linalg.norm(x - x[i], axis=1)[others]
        expected_precision.append(average_precision_score(relevant, scores))
        expected_gain.append(ndcg_score([relevant], [scores]))
    np.testing.assert_allclose(found.average_precision[found.counted], expected_precision, rtol=1e-12)
    np.testing.assert_allclose(found.ndcg[found.counted], expected_gain, rtol=1e-12)
    assert r.mean_average_precision(found) == pytest.approx(np.mean(expected_precision))
    assert r.ndcg(found) == pytest.approx(np.mean(expected_gain))


def test_means_are_over_queries_that_have_a_mate():
    x, labels = make_case()
    found = r.retrieval_report(x, labels)
    ranks = np.array([rank for rank in found.first_rank if not np.isnan(rank)])
    assert len(ranks) == 38
    assert r.precision_at_1(found) == pytest.approx(np.mean(ranks == 1))
    assert 0 < r.precision_at_1(found) < r.recall_at_k(found, k=4) < 1
    assert r.recall_at_k(found, k=4) == r.cmc(found, k=4) == pytest.approx(np.mean(ranks <= 4))
    assert r.cmc_curve(found, num_ranks=6) == [pytest.approx(np.mean(ranks <= k)) for k in range(1, 7)]
    assert r.mrr(found) == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert r.r_precision(found) == pytest.approx(np.nanmean(found.r_precision))
    assert r.map_at_r(found) == pytest.approx(np.nanmean(found.map_at_r))


def test_the_table_of_classes_adds_up_to_the_means():
    x, labels = make_case()
    found = r.retrieval_report(x, labels)
    table = r.per_class(found)
    assert table["label"] == [-2, 3, 5, 8, 9, 11]
    assert table["queries"] == [int((labels == label).sum()) for label in table["label"]]
    assert table["lone"] == [0, 0, 0, 1, 1, 0]
    for name, whole in (("precision_at_1", r.precision_at_1), ("r_precision", r.r_precision), ("map_at_r", r.map_at_r)):
        np.testing.assert_array_equal(np.isnan(table[name]), np.array(table["lone"]) == 1)
        assert np.nansum(np.array(table[name]) * table["queries"]) / 38 == pytest.approx(whole(found))


def test_duplicates_count_against_the_query():
    x, labels = make_case(12)
    x[[2, 7, 9]] = x[0]
    labels[[0, 2, 7, 9]] = [3, 5, 3, 5]
    assert_equal_by_hand(r.retrieval_report(x, labels), x, labels)
    collapsed = r.retrieval_report(np.ones((9, 4), np.float32), np.arange(9) % 3)
    assert r.precision_at_1(collapsed) == r.map_at_r(collapsed) == 0
    assert (collapsed.first_rank == 7).all()  # after the six of the other classes
    assert r.precision_at_1(r.retrieval_report(np.zeros((4, 2)), np.zeros(4, int))) == 1


def test_order_shift_and_scale_change_nothing():
    x, labels = make_case()
    expected = r.retrieval_report(x, labels)
    order = np.random.default_rng(1).permutation(len(x))
    for same in (r.retrieval_report(x[order], labels[order]), r.retrieval_report((x[order] - 90) * 1e25, labels[order])):
        for name in FIGURES:
            np.testing.assert_allclose(getattr(same, name), getattr(expected, name)[order], rtol=1e-12)


def test_nothing_to_find_is_not_a_number():
    for x, labels in ((np.eye(3), np.arange(3)), (np.full((4, 2), np.nan), np.zeros(4, int)), (np.ones((1, 2)), np.zeros(1, int))):
        found = r.retrieval_report(x, labels)
        for metric in (r.precision_at_1, r.recall_at_k, r.cmc, r.r_precision, r.map_at_r, r.mean_average_precision, r.mrr, r.ndcg):
            assert np.isnan(metric(found))
        assert np.isnan(r.per_class(found)["map_at_r"]).all()
    assert r.retrieval_report(np.eye(3), np.arange(3)).num_lone == 3


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_equal_brute_force(block, k):
    x, _ = make_case()
    expected = []
    for i in range(40):
        d = np.square(x - x[i]).sum(1)
        d[i] = np.inf
        expected.append(np.argsort(d, kind="stable")[:k])
    np.testing.assert_array_equal(nearest_neighbours(x, k=k, block=block), expected)


def test_refusals():
    x, labels = make_case()
    with pytest.raises(ValueError, match="k must be from 1"):
        nearest_neighbours(np.eye(3), k=3)
    with pytest.raises(ValueError, match=r"embeddings \[40\] must be rows \[n, e\]"):
        r.retrieval_report(x[:, 0], labels)
    with pytest.raises(ValueError, match=r"embeddings \[40, 5\] but labels \[39\] \(int64\): labels must be ints \[40\]"):
        r.retrieval_report(x, labels[:-1])
    with pytest.raises(ValueError, match="labels must be ints"):
        r.retrieval_report(x, labels / 2)
    with pytest.raises(ValueError, match="gallery_labels is missing: give both"):
        r.retrieval_report(x, labels, gallery=x)
    with pytest.raises(ValueError, match="gallery has 4 features but embeddings 5"):
        r.retrieval_report(x, labels, gallery=x[:, :4], gallery_labels=labels)
    with pytest.raises(ValueError, match="k=0 must be"):
        r.recall_at_k(r.retrieval_report(x, labels), k=0)
