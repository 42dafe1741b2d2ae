"""Softmax losses over cosines with learned class vectors against loops, and close to 0° and 180° in single precision."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.angular_margin import ArcFace, CosFace, NormalisedSoftmax, SubCentreArcFace
from tests.embedding_cases import mean
from tests.learned_loss_cases import NUM_CLASSES, assert_equals_learned_oracle, assert_refuses_strange_labels

pytestmark = pytest.mark.usefixtures("float64")

VECTORS = np.random.default_rng(1).normal(size=(NUM_CLASSES, 4)) * np.linspace(0.3, 2.0, 4)
CENTRES = np.random.default_rng(2).normal(size=(NUM_CLASSES, 3, 4)) * np.linspace(2.0, 0.3, 4)


def cosine(a, b):
    norms = math.sqrt((a**2).sum() * (b**2).sum())
    return (a * b).sum() / norms if norms else 0.0


def with_angle(c, margin):
    angle = math.acos(max(-1.0, min(1.0, c)))
    return math.cos(angle + margin) if angle <= math.pi - margin else c - margin * math.sin(margin)


def softmax_oracle(similarity, own, scale):
    """The mean of −log softmax; `similarity(row, vectors of a class)`, `own` makes one's own class' logit of it."""

    def oracle(x, labels, where, vectors):
        values = []
        for row, label, counts in zip(x, labels, where, strict=True):
            logits = [scale * similarity(row, of_class) for of_class in vectors]
            logits[label] = scale * own(similarity(row, vectors[label]))
            values += [math.log(sum(math.exp(z - logits[label]) for z in logits))] if counts else []
        return mean(values)

    return oracle


def nearest(row, centres):
    return max(cosine(row, centre) for centre in centres)


@pytest.mark.parametrize("temperature", [0.05, 0.4])
def test_normalised_softmax(temperature):
    oracle = softmax_oracle(cosine, lambda c: c, 1 / temperature)
    assert_equals_learned_oracle(NormalisedSoftmax(NUM_CLASSES, temperature=temperature), "vectors", VECTORS, oracle)


@pytest.mark.parametrize(("margin", "scale"), [(0.35, 64.0), (0.1, 5.0)])
def test_cosface(margin, scale):
    oracle = softmax_oracle(cosine, lambda c: c - margin, scale)
    assert_equals_learned_oracle(CosFace(NUM_CLASSES, margin=margin, scale=scale), "vectors", VECTORS, oracle)


@pytest.mark.parametrize(("margin", "scale"), [(28.6, 64.0), (100.0, 5.0)])  # 100°: for most the angle is beyond 180° − m
def test_arcface(margin, scale):
    oracle = softmax_oracle(cosine, lambda c: with_angle(c, math.radians(margin)), scale)
    assert_equals_learned_oracle(ArcFace(NUM_CLASSES, margin=margin, scale=scale), "vectors", VECTORS, oracle)


@pytest.mark.parametrize(("margin", "scale"), [(28.6, 64.0), (100.0, 5.0)])
def test_sub_centre_arcface(margin, scale):
    oracle = softmax_oracle(nearest, lambda c: with_angle(c, math.radians(margin)), scale)
    assert_equals_learned_oracle(SubCentreArcFace(NUM_CLASSES, margin=margin, scale=scale), "vectors", CENTRES, oracle)


@partial(jax.jit, static_argnums=0)
def value_and_gradients(loss, x, vectors, labels):
    """The sum over the examples; its gradients by them and by the class vectors."""
    total = lambda x, w: loss.apply({"params": {"vectors": w}}, x, labels).sum()
    return jax.value_and_grad(total, argnums=(0, 1))(x, vectors)


def test_one_centre_is_arcface():
    x, labels = jnp.array(VECTORS[3:6] + 0.3), jnp.array([1, 4, 9])
    one, (by_x, by_vectors) = value_and_gradients(SubCentreArcFace(NUM_CLASSES, centres=1), x, jnp.array(VECTORS[:, None]), labels)
    expected, gradients = value_and_gradients(ArcFace(NUM_CLASSES), x, jnp.array(VECTORS), labels)
    np.testing.assert_allclose(one, expected, rtol=1e-12)
    for ours, theirs in zip((by_x, by_vectors[:, 0]), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [NormalisedSoftmax, CosFace, ArcFace, SubCentreArcFace])
def test_strange_labels(name):
    assert_refuses_strange_labels(name(NUM_CLASSES))


@pytest.mark.parametrize("angle", [0.0, 1e-5, 1e-3, 0.1, math.pi - 0.1, math.pi - 1e-3, math.pi - 1e-5, math.pi])
@pytest.mark.parametrize("name", [NormalisedSoftmax, CosFace, ArcFace, SubCentreArcFace])
def test_single_precision_near_the_poles(name, angle):
    """The cosine of 0.001 differs from 1 by ten roundings: the angle, and the gradient along it, must not be made from it."""
    rng = np.random.default_rng(3)
    own, aside = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    others = rng.normal(size=(4, 6))
    loss = name(5, scale=6.0) if name is not NormalisedSoftmax else name(5, temperature=0.2)
    vectors = np.vstack([own, others])
    vectors = np.stack([vectors, vectors[::-1]], axis=1)[:, :1] if name is SubCentreArcFace else vectors
    loss = loss.clone(centres=1) if name is SubCentreArcFace else loss
    x = (math.cos(angle) * own + math.sin(angle) * aside)[None]

    value, gradients = value_and_gradients(loss, jnp.array(x), jnp.array(vectors), jnp.array([0]))
    with jax.enable_x64(False):
        single, of_single = value_and_gradients(loss, jnp.array(x, jnp.float32), jnp.array(vectors, jnp.float32), jnp.array([0]))
    np.testing.assert_allclose(single, value, rtol=2e-5, atol=2e-6)
    for ours, exact in zip(of_single, gradients, strict=True):
        assert np.isfinite(ours).all()
        if 1e-4 < angle < math.pi - 1e-4:  # nearer, the coordinates' own rounding turns the direction
            np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-3 * np.abs(exact).max())
        assert np.abs(ours).max() < 2 * max(1, np.abs(exact).max())


def test_zero_class_vectors_do_no_harm():
    for module in (NormalisedSoftmax(3), CosFace(3), ArcFace(3), SubCentreArcFace(3)):
        shape = (3, 3, 2) if isinstance(module, SubCentreArcFace) else (3, 2)
        x = jnp.array([[1.0, 2.0], [0.0, 0.0]])
        for gradient in value_and_gradients(module, x, jnp.zeros(shape), jnp.array([0, 2]))[1]:
            assert jnp.isfinite(gradient).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (NormalisedSoftmax, {"temperature": 0.0}, "temperature=0.0 must be finite and positive"),
        (CosFace, {"margin": -0.1}, "margin=-0.1 must be finite and not negative"),
        (CosFace, {"scale": 0.0}, "scale=0.0 must be finite and positive"),
        (ArcFace, {"margin": 181.0}, "margin=181.0 must be from 0 to 180 degrees"),
        (SubCentreArcFace, {"centres": 0}, "centres=0 must be a whole number of at least 1"),
        (SubCentreArcFace, {"vectors_init": "normal"}, "vectors_init='normal' must be"),
    ],
)
def test_options_out_of_range_are_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        module(3, **options).init(jax.random.key(0), jnp.ones((2, 2)), jnp.array([0, 1]))
