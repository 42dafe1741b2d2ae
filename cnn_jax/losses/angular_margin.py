"""Softmax over the cosines between embeddings and learned class vectors, with a margin that one's own class has to win by.

All are −log softmax(scale · logits) of the class, the margin being taken off its own logit; the mean over the batch is the plain mean.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer
from jaxtyping import Array, Float

from cnn_jax.initialisers import normal
from cnn_jax.losses.checks import check_margin, check_positive
from cnn_jax.losses.class_vectors import class_entropies, class_rows, is_own, learned_vectors
from cnn_jax.ops.arguments import check_number, check_whole
from cnn_jax.ops.distance import cosine_similarities, unit_length


class NormalisedSoftmax(nn.Module):
    """−log softmax(cos(x, w_j) / T) of the class: no margin. Parameter: `vectors` [k, e].

    Attributes:
      num_classes: k.
      temperature: T, positive.
      vectors_init: (key, shape, dtype) -> array.

    Raises:
      ValueError: the temperature is not positive, or as `class_vectors.class_rows`.

    Reference: Zhai and Wu, "Classification is a strong baseline for deep metric learning", 2018; PyTorch Metric Learning's default T.

    >>> import jax
    >>> loss = NormalisedSoftmax(2, vectors_init=nn.initializers.ones)  # both vectors alike
    >>> loss.init_with_output(jax.random.key(0), jnp.ones((1, 3)), jnp.array([1]))[0].item() == jnp.log(2.0).item()
    True
    """

    num_classes: int
    temperature: float = 0.05
    vectors_init: Initializer = normal(1.0)

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None):
        check_positive("temperature", self.temperature)
        x, index = class_rows(embeddings, labels, where, self.num_classes)
        cosines = cosine_similarities(x, learned_vectors(self, x))
        return class_entropies(cosines / self.temperature, index, where, embeddings)


class CosFace(nn.Module):
    """−log softmax(s · (cos(x, w_j) − m·[j = class])) of the class: a margin of the cosine. Parameter: `vectors` [k, e].

    Attributes:
      num_classes: k.
      margin: m, not negative.
      scale: s, positive.
      vectors_init: (key, shape, dtype) -> array.

    Raises:
      ValueError: the margin is negative, the scale not positive, or as `class_vectors.class_rows`.

    Reference: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", 2018, equation 4.

    >>> import jax
    >>> loss = CosFace(2, margin=0.5, scale=2.0, vectors_init=nn.initializers.ones)
    >>> round(loss.init_with_output(jax.random.key(0), jnp.ones((1, 3)), jnp.array([1]))[0].item(), 4)  # log(1 + exp(1))
    1.3133
    """

    num_classes: int
    margin: float = 0.35
    scale: float = 64.0
    vectors_init: Initializer = normal(1.0)

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None):
        check_margin(self.margin)
        check_positive("scale", self.scale)
        x, index = class_rows(embeddings, labels, where, self.num_classes)
        cosines = cosine_similarities(x, learned_vectors(self, x))
        short = jnp.where(is_own(index, self.num_classes), cosines - self.margin, cosines)
        return class_entropies(self.scale * short, index, where, embeddings)


class ArcFace(nn.Module):
    """−log softmax(s · logits) of the class, with logits cos θ_j, and cos(θ + m) for the class: a margin of the angle.

    Beyond θ = 180° − m, where cos(θ + m) would rise again, the logit is cos θ − m·sin m. Parameter: `vectors` [k, e].

    Attributes:
      num_classes: k.
      margin: m, in degrees, from 0 to 180.
      scale: s, positive.
      vectors_init: (key, shape, dtype) -> array.

    Raises:
      ValueError: the margin lies outside [0, 180], the scale is not positive, or as `class_vectors.class_rows`.

    Reference: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2018, equation 3; PyTorch Metric Learning's
      default m of 28.6° is the paper's 0.5. That library's gradient is infinite or NaN where embedding and vector coincide; here it is 0.

    >>> import jax
    >>> loss = ArcFace(2, margin=60.0, scale=1.0, vectors_init=nn.initializers.ones)  # cos 60° against cos 0°
    >>> round(loss.init_with_output(jax.random.key(0), jnp.ones((1, 3)), jnp.array([1]))[0].item(), 4)  # log(1 + exp(0.5))
    0.9741
    """

    num_classes: int
    margin: float = 28.6
    scale: float = 64.0
    vectors_init: Initializer = normal(1.0)

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None):
        _check_angle(self.margin)
        check_positive("scale", self.scale)
        x, index = class_rows(embeddings, labels, where, self.num_classes)
        vectors = learned_vectors(self, x)
        own = jnp.take(vectors, index, axis=0, mode="clip")
        target = _cosine_beyond(_angles(x, own), math.radians(self.margin))
        logits = jnp.where(is_own(index, self.num_classes), target[:, None], cosine_similarities(x, vectors))
        return class_entropies(self.scale * logits, index, where, embeddings)


class SubCentreArcFace(nn.Module):
    """`ArcFace` with several vectors a class, of which the one nearest to the embedding counts. Parameter: `vectors` [k, c, e].

    A class may then have several faces, and examples with a wrong label a centre of their own.

    Attributes:
      num_classes: k.
      centres: c, the vectors of each class.
      margin: in degrees, from 0 to 180.
      scale: positive.
      vectors_init: (key, shape, dtype) -> array.

    Raises:
      ValueError: there is no centre, the margin lies outside [0, 180], the scale is not positive, or as `class_vectors.class_rows`.

    Reference: Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces", 2020, equation 4.

    >>> import jax
    >>> loss = SubCentreArcFace(2, margin=60.0, scale=1.0, vectors_init=nn.initializers.ones)
    >>> round(loss.init_with_output(jax.random.key(0), jnp.ones((1, 3)), jnp.array([1]))[0].item(), 4)  # log(1 + exp(0.5))
    0.9741
    """

    num_classes: int
    centres: int = 3
    margin: float = 28.6
    scale: float = 64.0
    vectors_init: Initializer = normal(1.0)

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None):
        check_whole("centres", self.centres)
        _check_angle(self.margin)
        check_positive("scale", self.scale)
        x, index = class_rows(embeddings, labels, where, self.num_classes)
        vectors = learned_vectors(self, x, self.centres)
        cosines = cosine_similarities(x, vectors.reshape(-1, x.shape[1])).reshape(len(x), self.num_classes, self.centres)
        own = jnp.take(vectors, index, axis=0, mode="clip")
        nearest = jnp.take_along_axis(cosines, jnp.minimum(index, self.num_classes - 1)[:, None, None], axis=1)[:, 0].argmax(1)
        own = jnp.take_along_axis(own, nearest[:, None, None], axis=1)[:, 0]
        target = _cosine_beyond(_angles(x, own), math.radians(self.margin))
        logits = jnp.where(is_own(index, self.num_classes), target[:, None], cosines.max(2))
        return class_entropies(self.scale * logits, index, where, embeddings)


def _angles(x: Float[Array, "b e"], y: Float[Array, "b e"]) -> Float[Array, "b"]:
    """The angle between each row of x and that of y, 90° where either is zero; gradient 0 where they coincide or are opposite.

    From sum and difference of the unit vectors, as Kahan does: arccos of the cosine has no digits left near 0° and 180°.
    """
    x, y = unit_length(x), unit_length(y)
    apart, together = _norms(x - y), _norms(x + y)
    nothing = (apart == 0) & (together == 0)
    return 2 * jnp.arctan2(jnp.where(nothing, 1, apart), jnp.where(nothing, 1, together))


def _norms(x: Float[Array, "b e"]) -> Float[Array, "b"]:
    squares = jnp.square(x).sum(1)
    return jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))


def _cosine_beyond(angles: Float[Array, "b"], margin: float) -> Float[Array, "b"]:
    """cos(θ + m), continued so that it falls with θ throughout."""
    return jnp.where(angles <= math.pi - margin, jnp.cos(angles + margin), jnp.cos(angles) - margin * math.sin(margin))


def _check_angle(margin: float) -> None:
    check_number("margin", margin, lambda v: 0 <= v <= 180, "from 0 to 180 degrees")
