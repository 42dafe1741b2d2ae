"""Losses over proxies of the classes against loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.proxies import ProxyAnchor, ProxyNCA, SoftTriple
from tests.embedding_cases import mean
from tests.learned_loss_cases import NUM_CLASSES, assert_equals_learned_oracle, assert_refuses_strange_labels
from tests.test_losses_angular_margin import CENTRES, VECTORS, cosine, softmax_oracle

pytestmark = pytest.mark.usefixtures("float64")


def squared(a, b):
    a, b = (v / math.sqrt((v**2).sum()) if v.any() else v for v in (a, b))
    return ((a - b) ** 2).sum()


def anchor_oracle(margin, scale):
    def oracle(x, labels, where, vectors):
        drawn, pushed = [], []
        for j, proxy in enumerate(vectors):
            mine = [row for row, label, counts in zip(x, labels, where, strict=True) if counts and label == j]
            others = [row for row, label, counts in zip(x, labels, where, strict=True) if counts and label != j]
            drawn += [math.log(1 + sum(math.exp(-scale * (cosine(row, proxy) - margin)) for row in mine))] if mine else []
            pushed += [math.log(1 + sum(math.exp(scale * (cosine(row, proxy) + margin)) for row in others))]
        return mean(drawn) + mean(pushed)

    return oracle


def triple_similarity(temperature):
    def similarity(row, centres):
        cosines = [cosine(row, centre) for centre in centres]
        weights = [math.exp(c / temperature) for c in cosines]
        return sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)

    return similarity


@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_proxy_nca(scale):
    oracle = softmax_oracle(lambda row, proxy: -squared(row, proxy), lambda s: s, scale)
    assert_equals_learned_oracle(ProxyNCA(NUM_CLASSES, scale=scale), "vectors", VECTORS, oracle)


@pytest.mark.parametrize(("margin", "scale"), [(0.1, 32.0), (0.3, 4.0)])
def test_proxy_anchor(margin, scale):
    loss = ProxyAnchor(NUM_CLASSES, margin=margin, scale=scale)
    assert_equals_learned_oracle(loss, "vectors", VECTORS, anchor_oracle(margin, scale))


@pytest.mark.parametrize("options", [{}, {"scale": 5.0, "temperature": 0.4, "margin": 0.2}])
def test_soft_triple(options):
    values = {"scale": 20.0, "temperature": 0.1, "margin": 0.01, **options}
    oracle = softmax_oracle(triple_similarity(values["temperature"]), lambda s: s - values["margin"], values["scale"])
    assert_equals_learned_oracle(SoftTriple(NUM_CLASSES, centres=3, **options), "vectors", CENTRES, oracle)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [ProxyNCA, ProxyAnchor, SoftTriple])
def test_strange_labels(name):
    assert_refuses_strange_labels(name(NUM_CLASSES))


def test_a_batch_of_one_class_pulls_and_pushes():
    """The other proxies are pushed away though none of their examples is there."""
    loss = ProxyAnchor(3)
    value = lambda w: loss.apply({"params": {"vectors": w}}, jnp.eye(3)[:2], jnp.array([1, 1])).mean()
    gradient = jax.jit(jax.grad(value))(jnp.array(VECTORS[:3, :3]))
    assert (jnp.abs(gradient).max(1) > 0).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (ProxyNCA, {"scale": -1.0}, "scale=-1.0 must be finite and positive"),
        (ProxyAnchor, {"margin": -0.1}, "margin=-0.1 must be finite and not negative"),
        (ProxyAnchor, {"scale": 0.0}, "scale=0.0 must be finite and positive"),
        (SoftTriple, {"temperature": 0.0}, "temperature=0.0 must be finite and positive"),
        (SoftTriple, {"centres": 0}, "centres=0 must be a whole number of at least 1"),
    ],
)
def test_options_out_of_range_are_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        module(3, **options).init(jax.random.key(0), jnp.ones((2, 2)), jnp.array([0, 1]))


def test_first_weights_are_torchs():
    proxies = jax.jit(ProxyAnchor(400).init)(jax.random.key(0), jnp.ones((1, 50)), jnp.array([0]))["params"]["vectors"]
    np.testing.assert_allclose(proxies.std(), math.sqrt(2 / 400), rtol=0.05)
    centres = jax.jit(SoftTriple(40).init)(jax.random.key(0), jnp.ones((1, 50)), jnp.array([0]))["params"]["vectors"]
    np.testing.assert_allclose([centres.min(), centres.max()], [-0.05, 0.05], rtol=0.01)
