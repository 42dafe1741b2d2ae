"""Our losses on embeddings beside PyTorch Metric Learning's, with the differences that are known and why they are there."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import torch
from pytorch_metric_learning import distances, losses, miners, reducers

from cnn_jax.losses import (
    angular,
    average_precision,
    circle,
    contrastive,
    info_nce,
    lifted_structure,
    margin_loss,
    memory,
    multi_similarity,
    n_pairs,
    nca,
    ranked_list,
    triplet,
    tuplet_margin,
    vicreg,
)
from cnn_jax.losses import miners as our_miners
from cnn_jax.losses.angular_margin import ArcFace, CosFace, NormalisedSoftmax, SubCentreArcFace
from cnn_jax.losses.learned_margin import LearnedMargin
from cnn_jax.losses.proxies import ProxyAnchor, ProxyNCA, SoftTriple
from cnn_jax.ops.distance import unit_length


class Pair(NamedTuple):
    """Ours, f(embeddings, labels) -> [b], and theirs, which makes a module called with embeddings and labels.

    `miner` makes theirs' miner; ours has its own inside. `batches`: (size, classes, whether classes are of one size).
    """

    ours: Callable[..., Any]
    theirs: Callable[[], torch.nn.Module]
    miner: Callable[[], torch.nn.Module] | None = None
    batches: tuple[tuple[int, int, bool], ...] = ((48, 7, False), (64, 7, True), (31, 7, False), (96, 7, False))


class LearnedPair(NamedTuple):
    """A loss with learned weights: our module, and theirs made for (classes, embedding size); the name of its weights."""

    ours: Callable[[int], Any]
    theirs: Callable[[int, int], torch.nn.Module]
    weights: str


TRIPLETS = triplet.triplet_margin_loss


class TwoViews(torch.nn.Module):
    """Theirs of the first half of a batch and the second, of unit length as ours are."""

    def forward(self, embeddings, labels):
        """Returns the loss; labels are not read."""
        first, second = torch.nn.functional.normalize(embeddings)[: len(embeddings) // 2 * 2].chunk(2)
        return losses.VICRegLoss()(first, ref_emb=second)


class Remembered(torch.nn.Module):
    """Theirs of the second half of a batch, with the first half in a memory."""

    def forward(self, embeddings, labels):
        """Returns the loss of the second half."""
        half = len(embeddings) // 2
        loss_fn = losses.CrossBatchMemory(losses.SupConLoss(), embeddings.shape[1], memory_size=len(embeddings))
        loss_fn.embedding_memory = loss_fn.embedding_memory.to(embeddings.dtype)
        loss_fn.add_to_memory(embeddings[:half].detach(), labels[:half], half)
        return loss_fn(embeddings[half:], labels[half:])


def remembered(embeddings, labels):
    """Ours of the second half of a batch, with the first half in a memory."""
    half, e = len(labels) // 2, embeddings.shape[1]
    held = memory.enqueue(memory.init_memory(len(labels), e, embeddings.dtype), embeddings[:half], labels[:half])
    return info_nce.supervised_contrastive(embeddings[half:], labels[half:], references=held.references)


PAIRS: dict[str, Pair] = {
    "contrastive": Pair(contrastive.contrastive, losses.ContrastiveLoss),
    "snr_contrastive": Pair(
        partial(contrastive.snr_contrastive, regularisation=0.0),
        lambda: losses.ContrastiveLoss(distance=distances.SNRDistance()),
    ),
    "triplet_batch_all": Pair(triplet.triplet_batch_all, losses.TripletMarginLoss),
    "triplet_margin_loss, hard": Pair(
        partial(TRIPLETS, triplets="hard"), losses.TripletMarginLoss, lambda: miners.TripletMarginMiner(type_of_triplets="hard")
    ),
    "triplet_margin_loss, semi_hard": Pair(
        partial(TRIPLETS, triplets="semi_hard"), losses.TripletMarginLoss, lambda: miners.TripletMarginMiner(type_of_triplets="semihard")
    ),
    "triplet_margin_loss, easy": Pair(
        partial(TRIPLETS, triplets="easy", smooth=True),
        lambda: losses.TripletMarginLoss(smooth_loss=True),
        lambda: miners.TripletMarginMiner(type_of_triplets="easy"),
    ),
    "triplet_margin_loss, swap": Pair(partial(TRIPLETS, swap=True), lambda: losses.TripletMarginLoss(swap=True)),
    "triplet_margin_loss, smooth": Pair(partial(TRIPLETS, smooth=True), lambda: losses.TripletMarginLoss(smooth_loss=True)),
    "triplet_batch_hard": Pair(
        triplet.triplet_batch_hard,
        lambda: losses.TripletMarginLoss(margin=0.2, reducer=reducers.MeanReducer()),
        miners.BatchHardMiner,
    ),
    "nt_xent": Pair(info_nce.nt_xent, losses.NTXentLoss),
    "supervised_contrastive": Pair(info_nce.supervised_contrastive, losses.SupConLoss),
    "multi_similarity": Pair(multi_similarity.multi_similarity, losses.MultiSimilarityLoss),
    "multi_similarity, mined": Pair(
        partial(multi_similarity.multi_similarity, miner=our_miners.multi_similarity),
        losses.MultiSimilarityLoss,
        miners.MultiSimilarityMiner,
    ),
    "circle": Pair(circle.circle, losses.CircleLoss),
    "margin_loss": Pair(margin_loss.margin_loss, losses.MarginLoss),
    "lifted_structure": Pair(lifted_structure.lifted_structure, losses.LiftedStructureLoss),
    "generalised_lifted_structure": Pair(lifted_structure.generalised_lifted_structure, losses.GeneralizedLiftedStructureLoss),
    "angular": Pair(angular.angular, losses.AngularLoss),
    "tuplet_margin": Pair(tuplet_margin.tuplet_margin, losses.TupletMarginLoss),
    "n_pairs": Pair(n_pairs.n_pairs, losses.NPairsLoss),
    "fast_ap": Pair(average_precision.fast_ap, losses.FastAPLoss),
    "smooth_ap": Pair(average_precision.smooth_ap, losses.SmoothAPLoss, batches=((25, 5, True), (49, 7, True), (24, 6, True))),
    "ranked_list": Pair(ranked_list.ranked_list, lambda: losses.RankedListLoss(margin=0.4, Tn=10)),
    "nca": Pair(nca.nca, losses.NCALoss),
    "vicreg": Pair(lambda x, y: vicreg.vicreg(*jnp.split(x[: len(x) // 2 * 2], 2)), TwoViews),
    "contrastive, pair_margin": Pair(
        partial(contrastive.contrastive, miner=our_miners.pair_margin), losses.ContrastiveLoss, miners.PairMarginMiner
    ),
    "contrastive, batch_hard": Pair(
        partial(contrastive.contrastive, miner=our_miners.batch_hard), losses.ContrastiveLoss, miners.BatchHardMiner
    ),
    "contrastive, easy_positive": Pair(
        partial(contrastive.contrastive, miner=our_miners.easy_positive), losses.ContrastiveLoss, miners.BatchEasyHardMiner
    ),
    "contrastive, angular": Pair(
        partial(contrastive.contrastive, miner=our_miners.angular), losses.ContrastiveLoss, miners.AngularMiner
    ),
    "supervised_contrastive, memory": Pair(remembered, Remembered),
}

LEARNED: dict[str, LearnedPair] = {
    "ArcFace": LearnedPair(ArcFace, losses.ArcFaceLoss, "W"),
    "CosFace": LearnedPair(CosFace, losses.CosFaceLoss, "W"),
    "NormalisedSoftmax": LearnedPair(NormalisedSoftmax, losses.NormalizedSoftmaxLoss, "W"),
    "SubCentreArcFace": LearnedPair(SubCentreArcFace, losses.SubCenterArcFaceLoss, "W"),
    "ProxyNCA": LearnedPair(ProxyNCA, losses.ProxyNCALoss, "proxies"),
    "ProxyAnchor": LearnedPair(ProxyAnchor, losses.ProxyAnchorLoss, "proxies"),
    "SoftTriple": LearnedPair(SoftTriple, losses.SoftTripleLoss, "fc"),
    "LearnedMargin": LearnedPair(
        lambda k: LearnedMargin(k, regularisation=0.1),
        lambda num_classes, embedding_size: losses.MarginLoss(nu=0.1, learn_beta=True, num_classes=num_classes),
        "beta",
    ),
}

EXPLAINED: dict[str, str] = {
    "angular": "Theirs does not normalise the negatives. At unit length values agree; its gradient keeps a part along each negative, "
    "which moves no point of the sphere.",
    "supervised_contrastive, memory": "Theirs stores a batch first and compares it with the memory alone, so that it meets itself there "
    "without a gradient; ours compares the batch with itself, both ways, and with the memory.",
    "contrastive, angular": "Torch's pairwise distance adds 1e-6 to every difference: in one batch one of 80,249 triplets is then on the "
    "other side of 20°.",
    "smooth_ap": "PyTorch Metric Learning 2.9 takes the number of classes for their size: the two agree where these are equal (5 × 5), and "
    "differ for 6 classes of 4. It refuses classes of unequal size; ours takes any.",
    "ranked_list": "Theirs adds 1e-5 for each example to the divisors and leaves out negatives at distance 0; ours is the published "
    "formula.",
}
"""Rows that differ by more than 1e-5 in double precision, and why."""

WITHOUT: dict[str, str] = {
    "triplet_semi_hard": "FaceNet's choice of one negative for each positive; theirs takes every triplet within the margin, which is "
    "`triplet_margin_loss` with `triplets=semi_hard`.",
    "contrastive_squared": "Hadsell's formula of 2006; theirs has no squares.",
    "vicreg_by_label": "`vicreg` with views found by label, which theirs has not.",
    "semi_hard": "The miner: FaceNet's choice for each positive; theirs makes it for one positive an anchor, the nearest "
    "(`contrastive, easy_positive`) or the farthest.",
    "distance_weighted": "The miner: theirs draws negatives by chance; ours weighs each by how often it would be drawn.",
}
"""Losses on embeddings and miners, by the names of --set, that PyTorch Metric Learning has no counterpart of."""


def their_mean(pair: Pair) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Returns theirs as one function of embeddings and labels."""
    loss_fn, miner = pair.theirs(), pair.miner() if pair.miner else None

    def mean(embeddings, labels):
        return loss_fn(embeddings, labels, miner(embeddings, labels)) if miner else loss_fn(embeddings, labels)

    return mean


def our_mean(pair: Pair) -> Callable[[Any, Any], Any]:
    """Returns ours as one function of embeddings and labels."""
    return lambda embeddings, labels: jnp.mean(pair.ours(unit_length(embeddings), labels))  # theirs normalise inside
