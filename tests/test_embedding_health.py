"""The diagnostics of a batch against loops, and the names of collapses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.metrics.embedding_health import collapse_warning, embedding_health
from tests.embedding_cases import CASES, euclidean, make_case, mean, pairs, triplets

pytestmark = pytest.mark.usefixtures("float64")


def by_hand(x, labels, where, margin):
    d, counted = euclidean(x), x[where]
    positives, negatives = pairs(labels, where)
    norms = [np.sqrt((row**2).sum()) for row in counted]
    centred = counted - mean(list(counted))
    singular = np.linalg.svd(centred, compute_uv=False) ** 2 if len(counted) else np.zeros(1)
    p = singular[singular > 1e-14] / max(singular.sum(), 1e-14)
    return {
        "active_triplets": [d[a, p] - d[a, n] + margin > 0 for a, p, n in triplets(labels, where)],
        "positive_distance": [d[i, j] for i, j in positives],
        "negative_distance": [d[i, j] for i, j in negatives],
        "norm": norms,
        "norm_deviation": [np.std(norms)] if norms else [],
        "spread": [np.sqrt(mean([(row**2).sum() for row in centred]))] if norms else [],
        "effective_rank": [np.exp(-(p * np.log(p)).sum())] if norms else [],
    }


@pytest.mark.parametrize("e", [4, 12])  # more examples than features, and fewer
def test_figures_equal_loops(e):
    compiled = jax.jit(lambda x, labels, where: embedding_health(x, labels, where=where, margin=0.3))
    for case in CASES:
        x, labels, where = make_case(case, e=e)
        garbage = x.copy()
        garbage[~where] = np.nan
        found = compiled(jnp.array(garbage), jnp.array(labels), jnp.array(where))
        for name, values in by_hand(x, labels, where, 0.3).items():
            total = found[f"embeddings/{name}"]
            np.testing.assert_allclose(total.result(), np.mean(values) if values else np.nan, rtol=1e-7, err_msg=f"{case} {name}")
            assert np.isfinite(total.total), (case, name)


def test_batches_merge_and_have_no_gradient():
    a, b = (make_case(case) for case in ("random", "masked"))
    figures = [embedding_health(jnp.array(x), jnp.array(labels), where=jnp.array(where)) for x, labels, where in (a, b)]
    merged = jax.tree.map(lambda *values: np.sum(values), *figures)
    distances = [by_hand(*case, 0.0)["negative_distance"] for case in (a, b)]
    assert merged["embeddings/negative_distance"].result() == pytest.approx(np.mean([*distances[0], *distances[1]]))
    gradient = jax.jit(jax.grad(lambda x: sum(m.total for m in embedding_health(x, jnp.array(a[1])).values())))(jnp.array(a[0]))
    assert (gradient == 0).all()


def figures_of(x, labels):
    return {name: total.result() for name, total in embedding_health(jnp.array(x), jnp.array(labels)).items()}


def test_collapses_are_named():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(40) % 4)
    healthy = rng.normal(size=(40, 6)) + 3 * np.eye(6)[labels]
    assert collapse_warning(figures_of(healthy, labels)) is None
    centre = np.linspace(1, 2, 6)
    assert collapse_warning(figures_of(centre + 1e-3 * healthy, labels)).startswith("point collapse: ")
    assert collapse_warning(figures_of(np.ones((40, 6)), labels)).startswith("point collapse: ")
    assert collapse_warning(figures_of(np.zeros((40, 6)), labels)).startswith("norm collapse: ")
    line = rng.normal(size=(40, 1)) * centre + 1e-2 * healthy
    assert collapse_warning(figures_of(line, labels)).startswith("dimensional collapse: ")
    two_points = np.where(labels[:, None] % 2, centre, -centre) + 1e-2 * healthy
    assert collapse_warning(figures_of(two_points, labels % 2)) is None  # two classes need no more than a line
    assert collapse_warning({"loss": 1.0}) is None
    assert collapse_warning(dict.fromkeys(figures_of(healthy, labels), float("nan"))) is None


def test_all_coincident_have_no_rank_and_a_bad_margin_is_refused():
    assert figures_of(np.ones((5, 3)), np.arange(5) % 2)["embeddings/effective_rank"] == 0
    with pytest.raises(ValueError, match="margin=-1.0 must be finite and not negative"):
        embedding_health(jnp.ones((2, 2)), jnp.array([0, 1]), margin=-1.0)
