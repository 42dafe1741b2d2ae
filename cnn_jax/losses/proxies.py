"""Losses that compare embeddings with learned proxies of the classes instead of with each other: no pairs need to meet in a batch."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer
from jaxtyping import Array, Bool, Float

from cnn_jax.initialisers import normal
from cnn_jax.losses.checks import check_margin, check_positive
from cnn_jax.losses.class_vectors import class_entropies, class_rows, is_own, learned_vectors
from cnn_jax.losses.examples import hide
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_whole
from cnn_jax.ops.distance import cosine_similarities, squared_distances, unit_length
from cnn_jax.ops.precision import result_type


def fan_out_normal(key, shape, dtype=jnp.float32) -> jax.Array:
    """Returns proxies [k, e] with entries of variance 2 / k: what Proxy-Anchor starts from.

    Reference: torch's `kaiming_normal_` with `mode="fan_out"`, which takes the number of proxies for the fan.

    >>> fan_out_normal(jax.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return normal(math.sqrt(2 / shape[0]))(key, shape, dtype)


def uniform_by_number(key, shape, dtype=jnp.float32) -> jax.Array:
    """Returns centres [k, c, e] uniform in ±1 / √(k · c): what SoftTriple starts from.

    Reference: torch's `kaiming_uniform_` with a = √5, of the centres as columns.

    >>> bool((jnp.abs(uniform_by_number(jax.random.key(0), (5, 20, 2))) <= 0.1).all())
    True
    """
    bound = 1 / math.sqrt(shape[0] * shape[1])
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class ProxyNCA(nn.Module):
    """−log softmax(−s · ‖x − p_j‖²) of the class, with x and p_j scaled to unit length. Parameter: `vectors` [k, e].

    The batch mean is the plain mean.

    Attributes:
      num_classes: k.
      scale: s, positive; ProxyNCA++ takes 9.
      vectors_init: (key, shape, dtype) -> array.

    Raises:
      ValueError: the scale is not positive, or as `class_vectors.class_rows`.

    Reference: Movshovitz-Attias et al., "No fuss distance metric learning using proxies", 2017. As in PyTorch Metric Learning, and in
      ProxyNCA++ (Teh et al. 2020, equation 6), the sum below the fraction is over all proxies; the first paper leaves out one's own.

    >>> loss = ProxyNCA(2, vectors_init=nn.initializers.ones)  # both proxies alike
    >>> loss.init_with_output(jax.random.key(0), jnp.ones((1, 3)), jnp.array([1]))[0].item() == jnp.log(2.0).item()
    True
    """

    num_classes: int
    scale: float = 1.0
    vectors_init: Initializer = normal(1.0)

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None):
        check_positive("scale", self.scale)
        x, index = class_rows(embeddings, labels, where, self.num_classes)
        squares = squared_distances(unit_length(x), unit_length(learned_vectors(self, x)))
        return class_entropies(-self.scale * squares, index, where, embeddings)


class ProxyAnchor(nn.Module):
    """Each example's share of log(1 + Σ_{x of j} e^(−α(cos(x, p_j) − δ))) and log(1 + Σ_{x not of j} e^(α(cos(x, p_j) + δ))) of classes j.

    The proxies are the anchors. The batch mean is the mean of the first over the classes in the batch plus the mean of the second over
    all classes. A class' first term is shared by its examples, the second by the others, in equal parts. Parameter: `vectors` [k, e].

    Attributes:
      num_classes: k.
      margin: δ, not negative.
      scale: α, positive.
      vectors_init: (key, shape, dtype) -> array.

    Raises:
      ValueError: the margin is negative, the scale not positive, or as `class_vectors.class_rows`.

    Reference: Kim et al., "Proxy Anchor Loss for Deep Metric Learning", 2020, equation 4.

    >>> loss = ProxyAnchor(1, margin=0.0, scale=1.0, vectors_init=nn.initializers.ones)
    >>> loss.init_with_output(jax.random.key(0), jnp.array([[1.0, -1.0]]), jnp.array([0]))[0].item() == jnp.log(2.0).item()
    True
    """

    num_classes: int
    margin: float = 0.1
    scale: float = 32.0
    vectors_init: Initializer = fan_out_normal

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None):
        check_margin(self.margin)
        check_positive("scale", self.scale)
        x, index = class_rows(embeddings, labels, where, self.num_classes)
        cosines = cosine_similarities(x, learned_vectors(self, x))
        counts = jnp.ones(index.shape, bool) if where is None else where
        own = is_own(index, self.num_classes)
        drawn, pushed = own & counts[:, None], ~own & counts[:, None]
        terms = _log_one_plus(-self.scale * (cosines - self.margin), drawn), _log_one_plus(self.scale * (cosines + self.margin), pushed)
        shares = _shared(terms[0], drawn) / jnp.maximum(drawn.any(0).sum(), 1) + _shared(terms[1], pushed) / self.num_classes
        values = jnp.where(index < self.num_classes, counts.sum() * shares, jnp.nan)
        return hide(values, where).astype(result_type(embeddings))


class SoftTriple(nn.Module):
    """−log softmax(λ · (S_j − δ·[j = class])) of the class, S_j being the mean of cos(x, w_jc) over the centres c of class j.

    Centres weigh as softmax_c(cos(x, w_jc) / γ): the nearest most. The batch mean is the plain mean. Parameter: `vectors` [k, c, e].

    Attributes:
      num_classes: k.
      centres: c, the vectors of each class.
      scale: λ, positive.
      temperature: γ, positive.
      margin: δ, not negative.
      vectors_init: (key, shape, dtype) -> array.

    Raises:
      ValueError: there is no centre, scale or temperature are not positive, the margin is negative, or as `class_vectors.class_rows`.

    Reference: Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet Sampling", 2019, equation 8; as in PyTorch Metric
      Learning without equation 9, which merges centres.

    >>> loss = SoftTriple(2, margin=0.0, vectors_init=nn.initializers.ones)  # all centres alike
    >>> loss.init_with_output(jax.random.key(0), jnp.ones((1, 3)), jnp.array([1]))[0].item() == jnp.log(2.0).item()
    True
    """

    num_classes: int
    centres: int = 10
    scale: float = 20.0
    temperature: float = 0.1
    margin: float = 0.01
    vectors_init: Initializer = uniform_by_number

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None):
        check_whole("centres", self.centres)
        check_positive("scale", self.scale)
        check_positive("temperature", self.temperature)
        check_margin(self.margin)
        x, index = class_rows(embeddings, labels, where, self.num_classes)
        vectors = learned_vectors(self, x, self.centres).reshape(-1, x.shape[1])
        cosines = cosine_similarities(x, vectors).reshape(len(x), self.num_classes, self.centres)
        similarities = (jax.nn.softmax(cosines / self.temperature) * cosines).sum(2)
        short = jnp.where(is_own(index, self.num_classes), similarities - self.margin, similarities)
        return class_entropies(self.scale * short, index, where, embeddings)


def _log_one_plus(values: Float[Array, "b k"], members: Bool[Array, "b k"]) -> Float[Array, "k"]:
    """log(1 + Σ exp(values)) over the members of each class; 0 where there are none."""
    return jax.nn.softplus(log_sum_exp(values.T, members.T))


def _shared(terms: Float[Array, "k"], members: Bool[Array, "b k"]) -> Float[Array, "b"]:
    """What falls to each example when every class' term is shared equally by its members."""
    return (members * (terms / jnp.maximum(members.sum(0), 1))[None, :]).sum(1)
