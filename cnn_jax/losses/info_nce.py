"""Losses that tell each anchor's positives from its negatives by a softmax over cosines: InfoNCE and its kin.

`tile` anchors at a time are compared with all references, and compared anew for the gradient: memory O(b·tile) instead of O(b²), for large
batches: 9 MiB, not 70, for 2,048 with a tile of 128, in about the same time. For two views of one picture see `two_views.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_positive
from cnn_jax.losses.comparison import Miner, References, compare, gather, mean_over_anchors, similarities_of, spread_mean, weigh
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_whole
from cnn_jax.ops.distance import unit_length
from cnn_jax.ops.precision import result_type


def nt_xent(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    temperature: float = 0.07,
    tile: int | None = None,
) -> Float[Array, "b"]:
    """Returns Σ_p −log(exp(c_ap/τ) / (exp(c_ap/τ) + Σ_n exp(c_an/τ))) for each anchor, c being cosines; InfoNCE.

    Each positive stands alone against all negatives. Sums are scaled: the batch mean is the mean over all positive pairs. With one
    positive an anchor, as in SimCLR, it is `supervised_contrastive`.

    Args:
      temperature: τ; SimCLR takes 0.5.
      tile: how many anchors are compared at a time; None: all, as a miner needs.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], the temperature is not finite and positive, the tile no whole
        number of at least 1, or both tile and miner are given.

    Reference: Sohn 2016; van den Oord et al. 2018; Chen et al., "SimCLR", 2020, equation 1. PyTorch Metric Learning's NTXentLoss.

    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(nt_xent(x, jnp.array([0, 0, 1]), temperature=1.0).mean().item(), 4)  # log(1 + exp(−1))
    0.3133
    """
    check_positive("temperature", temperature)
    sums, num_pairs = _each_anchor(partial(_one_against_negatives, temperature), embeddings, labels, where, references, miner, tile)
    return spread_mean(sums, num_pairs, where).astype(result_type(embeddings))


def supervised_contrastive(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    temperature: float = 0.1,
    tile: int | None = None,
) -> Float[Array, "b"]:
    """Returns −1/P Σ_p log(exp(c_ap/τ) / Σ_j exp(c_aj/τ)) for each anchor, over its P positives p and all others j; c being cosines.

    The mean is taken over the anchors that have a positive (L_out of the reference). Without any negative in the batch it is 0. Unlike
    `nt_xent`, a positive stands against the other positives as well.

    Differs from PyTorch Metric Learning's SupConLoss where a loss rounds to 0: there it is left out of the mean. As there, a pair that a
    miner gives several times counts once.

    Args:
      temperature: τ.
      tile: how many anchors are compared at a time; None: all, as a miner needs.

    Raises:
      ValueError: as `nt_xent`.

    Reference: Khosla et al., "Supervised contrastive learning", 2020, equation 2.

    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(supervised_contrastive(x, jnp.array([0, 0, 1]), temperature=1.0).mean().item(), 4)
    0.3133
    """
    check_positive("temperature", temperature)
    term = partial(_positives_against_all, temperature)
    losses, positive, negative = _each_anchor(term, embeddings, labels, where, references, miner, tile)
    return mean_over_anchors(losses, positive & negative.any(), where).astype(result_type(embeddings))


def _one_against_negatives(temperature, cosines, positives, negatives):
    """Σ_p −log(e_p / (e_p + Σ_n e_n)) over the last axis, and the number of positives."""
    logits = cosines / temperature
    losses = jax.nn.softplus(log_sum_exp(logits, negatives)[..., None] - logits)
    return weigh(losses, positives).sum(-1), positives.sum(-1)


def _positives_against_all(temperature, cosines, positives, negatives):
    """−1/P Σ_p log(e_p / Σ_j e_j) over the last axis, 0 where there is no p; whether there is a positive; whether a negative."""
    logits, positives, negatives = cosines / temperature, positives != 0, negatives != 0
    # Weighed after the difference, not before: an anchor that is compared with nothing has −∞ there, and 0 · ∞ is NaN.
    losses = weigh(log_sum_exp(logits, positives | negatives)[..., None] - logits, positives)
    return losses.sum(-1) / jnp.maximum(positives.sum(-1), 1), positives.any(-1), negatives.any(-1)


def _each_anchor(term, embeddings, labels, where, references, miner, tile):
    """term(cosines [·, n], positives, negatives) of all anchors: at once, or `tile` at a time."""
    if tile is None:
        comparison = compare(embeddings, labels, where, references, miner)
        return term(similarities_of(comparison), comparison.positives, comparison.negatives)
    check_whole("tile", tile)
    if miner is not None:
        raise ValueError(f"tile={tile} must be None with a miner, which chooses among all pairs at once")
    together = gather(embeddings, labels, where, references)
    unit, b = unit_length(together.embeddings), len(labels)
    places = jnp.arange(len(together.labels))

    @jax.checkpoint  # nothing of [tile, n] is kept for the gradient
    def row(anchor, label, counted, place):
        same, counts = together.labels == label, together.where & counted
        cosines = jnp.matmul(unit, anchor, precision=lax.Precision.HIGHEST)
        return term(cosines, same & counts & (places != place), ~same & counts)

    return lax.map(lambda one: row(*one), (unit[:b], labels, together.where[:b], places[:b]), batch_size=tile)
