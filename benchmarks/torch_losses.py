"""Cases of losses on numbers, on yes or no, and on given pairs and triplets."""

import math
from functools import partial

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.agreement import case
from benchmarks.reductions import reductions, row_means
from cnn_jax.losses import binary, explicit_pairs, explicit_triplets, focal, regression, row_distances

SHAPES = ((7,), (5, 3), (4, 2, 3))
TIES = "at kinks and ties"


def _on_numbers(draw, ours, function, module, choices):
    """Scores and targets of one shape; `choices` are options of (ours, torch's). The last case lies on a grid, so that kinks are met."""
    for mine, theirs in choices:
        for shape in SHAPES:
            arrays = draw.normal(size=shape) * 2, draw.normal(size=shape)
            yield from reductions(partial(ours, **mine), function, module, *arrays, options=theirs, elements=math.prod(shape[1:]))
        grid = [np.round(draw.normal(size=(40,)) * 2) / 2 for _ in range(2)]
        yield case(partial(ours, **mine), partial(function, reduction="none", **theirs), *grid, variant=TIES)


def _same(*choices):
    return [(choice, choice) for choice in choices]


def mean_squared_error(draw):
    """F.mse_loss."""
    yield from _on_numbers(draw, regression.mean_squared_error, F.mse_loss, nn.MSELoss, _same({}))


def mean_absolute_error(draw):
    """F.l1_loss."""
    yield from _on_numbers(draw, regression.mean_absolute_error, F.l1_loss, nn.L1Loss, _same({}))


def huber(draw):
    """F.huber_loss."""
    yield from _on_numbers(draw, regression.huber, F.huber_loss, nn.HuberLoss, _same({}, {"delta": 0.5}, {"delta": 3.0}))


def smooth_l1(draw):
    """F.smooth_l1_loss."""
    yield from _on_numbers(draw, regression.smooth_l1, F.smooth_l1_loss, nn.SmoothL1Loss, _same({}, {"beta": 0.5}, {"beta": 0.0}))


def poisson_nll(draw):
    """F.poisson_nll_loss, counts of 0 and 1 among the targets."""
    for log_input in (True, False):
        for full in (True, False):
            for shape in SHAPES:
                scores = draw.normal(size=shape) if log_input else draw.random(size=shape) * 4
                options = {"log_input": log_input, "full": full}
                ours = partial(regression.poisson_nll, **options)
                arrays = scores, draw.poisson(2.0, size=shape).astype(np.float32)
                about = {"elements": math.prod(shape[1:]), "options": options, "fixed": (1,)}
                yield from reductions(ours, F.poisson_nll_loss, nn.PoissonNLLLoss, *arrays, **about)


def gaussian_nll(draw):
    """F.gaussian_nll_loss, variances below ε among them."""
    for full in (True, False):
        for shape in SHAPES:
            variances = draw.random(size=shape) * 2
            variances[0] = 1e-3
            ours = partial(regression.gaussian_nll, full=full, epsilon=0.01)
            arrays = draw.normal(size=shape), draw.normal(size=shape), variances
            about = {"elements": math.prod(shape[1:]), "options": {"full": full, "eps": 0.01}}
            yield from reductions(ours, F.gaussian_nll_loss, nn.GaussianNLLLoss, *arrays, **about)


def binary_cross_entropy(draw):
    """F.binary_cross_entropy with targets of 0, 1 and between; also at probabilities of 0 and 1."""
    ours, function = binary.binary_cross_entropy, F.binary_cross_entropy
    for shape in SHAPES:
        for targets in (draw.integers(0, 2, size=shape).astype(np.float32), draw.random(size=shape)):
            yield from reductions(ours, function, nn.BCELoss, draw.random(size=shape), targets, elements=math.prod(shape[1:]))
    arrays = [0.0, 0.0, 1.0, 1.0, 1e-30], [0.0, 1.0, 0.0, 1.0, 1.0]
    for fixed, variant in (((1,), "probabilities of 0 and 1"), ((0,), "probabilities of 0 and 1, gradient by targets")):
        yield case(ours, partial(function, reduction="none"), *arrays, fixed=fixed, pointwise=True, variant=variant)


def binary_cross_entropy_with_logits(draw):
    """F.binary_cross_entropy_with_logits with pos_weight, weight and soft targets; also at ±1e4."""
    ours, function = binary.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits
    for shape in SHAPES:
        targets = draw.random(size=shape)
        n = shape[-1] if len(shape) > 1 else 1
        weights = tuple(float(np.float32(w)) for w in draw.random(size=n) * 3)
        for name, theirs in (("", ""), ("pos_weight", "pos_weight"), ("class_weights", "weight")):
            mine = {name: weights} if name else {}
            build = lambda theirs=theirs, weights=weights: {theirs: torch.tensor(weights, dtype=torch.float64)} if theirs else {}
            in_type = lambda z, t, build=build, **o: function(z, t, **{k: v.to(z.dtype) for k, v in build().items()}, **o)
            # The module keeps its weights in a type; it is made for the logits' one.
            module = lambda reduction, build=build: (
                lambda z, t: nn.BCEWithLogitsLoss(**{k: v.to(z.dtype) for k, v in build().items()}, reduction=reduction)(z, t)
            )
            arrays = draw.normal(size=shape) * 4, targets
            yield from reductions(partial(ours, **mine), in_type, module, *arrays, elements=math.prod(shape[1:]))
        smooth = lambda z, t: row_means(function(z, t * 0.8 + 0.1, reduction="none"))
        yield case(partial(ours, smoothing=0.2), smooth, draw.normal(size=shape), targets)
    arrays = [-1e4, -1e4, 1e4, 1e4, 0.0], [0.0, 1.0, 0.0, 1.0, 0.5]
    yield case(ours, partial(function, reduction="none"), *arrays, pointwise=True, variant="at 0 and ±1e4")


def _signs(draw, shape):
    return draw.choice([-1.0, 1.0], size=shape)


def soft_margin(draw):
    """F.soft_margin_loss; also at ±1e4."""
    ours, function = binary.soft_margin, F.soft_margin_loss
    for shape in SHAPES:
        arrays = draw.normal(size=shape) * 3, _signs(draw, shape)
        yield from reductions(ours, function, nn.SoftMarginLoss, *arrays, elements=math.prod(shape[1:]), fixed=(1,))
    arrays = [-1e4, -1e4, 1e4, 1e4, 0.0], [-1.0, 1.0, -1.0, 1.0, 1.0]
    yield case(ours, partial(function, reduction="none"), *arrays, pointwise=True, fixed=(1,), variant="at 0 and ±1e4")


def sigmoid_focal(draw):
    """torchvision's formula over F.binary_cross_entropy_with_logits."""

    def theirs(z, t, alpha, gamma):
        p = z.sigmoid()
        right = p * t + (1 - p) * (1 - t)
        loss = F.binary_cross_entropy_with_logits(z, t, reduction="none") * (1 - right) ** gamma
        return row_means(loss if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * loss)

    for shape in SHAPES:
        for alpha, gamma in ((0.25, 2.0), (None, 1.0), (0.6, 3.0)):
            ours = partial(focal.sigmoid_focal, alpha=alpha, gamma=gamma)
            arrays = draw.normal(size=shape) * 2, draw.integers(0, 2, size=shape).astype(np.float32)
            yield case(ours, partial(theirs, alpha=alpha, gamma=gamma), *arrays, fixed=(1,))


def hinge_embedding(draw):
    """F.hinge_embedding_loss."""
    for margin in (1.0, 0.3):
        for shape in SHAPES:
            ours = partial(explicit_pairs.hinge_embedding, margin=margin)
            about = {"elements": math.prod(shape[1:]), "options": {"margin": margin}, "fixed": (1,)}
            arrays = draw.random(size=shape) * 2, _signs(draw, shape)
            yield from reductions(ours, F.hinge_embedding_loss, nn.HingeEmbeddingLoss, *arrays, **about)
    ours, theirs = explicit_pairs.hinge_embedding, partial(F.hinge_embedding_loss, reduction="none")
    yield case(ours, theirs, [0.0, 0.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0], fixed=(1,), variant=TIES)


def cosine_embedding(draw):
    """F.cosine_embedding_loss; also of a zero row."""
    for margin in (0.0, 0.4, -0.5):
        for b, e in ((7, 4), (3, 16)):
            ours = partial(explicit_pairs.cosine_embedding, margin=margin)
            arrays = draw.normal(size=(b, e)), draw.normal(size=(b, e)), _signs(draw, b)
            yield from reductions(ours, F.cosine_embedding_loss, nn.CosineEmbeddingLoss, *arrays, options={"margin": margin}, fixed=(2,))
    x, y = draw.normal(size=(2, 4, 3))
    x[:2] = 0
    theirs = partial(F.cosine_embedding_loss, reduction="none")
    for targets, variant in (([1.0, 1.0, 1.0, -1.0], "a zero row"), ([-1.0, 1.0, 1.0, -1.0], "a zero row at the kink")):
        yield case(explicit_pairs.cosine_embedding, theirs, x, y, targets, fixed=(2,), variant=variant)


def margin_ranking_pair(draw):
    """F.margin_ranking_loss."""
    for margin in (0.0, 0.5):
        for shape in ((7,), (5, 3)):
            ours = partial(explicit_pairs.margin_ranking_pair, margin=margin)
            arrays = draw.normal(size=shape), draw.normal(size=shape), _signs(draw, shape)
            yield case(ours, partial(F.margin_ranking_loss, margin=margin, reduction="none"), *arrays, fixed=(2,))
            for how in ("mean", "sum"):
                reduced = lambda *a, f=ours, how=how: getattr(f(*a), how)()
                yield case(reduced, nn.MarginRankingLoss(margin=margin, reduction=how), *arrays, fixed=(2,))
    theirs = partial(F.margin_ranking_loss, reduction="none")
    yield case(explicit_pairs.margin_ranking_pair, theirs, [1.0, 2.0], [1.0, 2.0], [1.0, -1.0], fixed=(2,), variant=TIES)


TRIPLET_CHOICES = (
    {}, {"margin": 0.3}, {"p": 1.0}, {"p": 3.0}, {"p": math.inf}, {"swap": True}, {"p": 1.0, "swap": True, "margin": 2.0},
)  # fmt: skip


def triplet_margin(draw):
    """F.triplet_margin_loss with its norms, margins and swap; also with points that coincide."""
    for options in TRIPLET_CHOICES:
        for b, e in ((7, 4), (3, 16)):
            arrays = draw.normal(size=(3, b, e))
            ours = partial(explicit_triplets.triplet_margin, **options)
            yield from reductions(ours, F.triplet_margin_loss, nn.TripletMarginLoss, *arrays, options=options)
    a, p, n = np.round(draw.normal(size=(3, 6, 2)))
    p[:3], n[2:5] = a[:3], a[2:5]
    theirs = partial(F.triplet_margin_loss, reduction="none")
    yield case(explicit_triplets.triplet_margin, theirs, a, p, n, variant="points that coincide")


def triplet_margin_with_distance(draw):
    """F.triplet_margin_with_distance_loss with torch's default distance and with one minus the cosine."""
    pairs = (
        (row_distances.row_distances, None),
        (lambda x, y: 1 - row_distances.row_cosines(x, y), lambda x, y: 1 - F.cosine_similarity(x, y)),
        (lambda x, y: jnp.square(x - y).sum(-1), lambda x, y: ((x - y) ** 2).sum(-1)),
    )
    for mine, theirs in pairs:
        for swap in (False, True):
            ours = partial(explicit_triplets.triplet_margin_with_distance, distance_fn=mine, swap=swap, margin=0.7)
            options = {"distance_function": theirs, "swap": swap, "margin": 0.7}
            modules = F.triplet_margin_with_distance_loss, nn.TripletMarginWithDistanceLoss
            yield from reductions(ours, *modules, *draw.normal(size=(3, 6, 5)), options=options)


def rows_apart(draw):
    """F.pairwise_distance and nn.PairwiseDistance; also of rows that coincide."""
    for p in (1.0, 2.0, 3.0, 0.5, float("inf")):
        x, y = draw.normal(size=(2, 6, 5))
        yield case(partial(row_distances.row_distances, p=p), partial(F.pairwise_distance, p=p), x, y)
        yield case(partial(row_distances.row_distances, p=p, epsilon=1e-3), nn.PairwiseDistance(p=p, eps=1e-3), x, y)
    yield case(row_distances.row_distances, F.pairwise_distance, x, x.copy(), variant="rows that coincide")


def rows_cosine(draw):
    """F.cosine_similarity and nn.CosineSimilarity, whose ε bounds the lengths instead of being added to them."""
    for theirs in (F.cosine_similarity, nn.CosineSimilarity()):
        for b, e in ((7, 4), (3, 16)):
            yield case(row_distances.row_cosines, theirs, *draw.normal(size=(2, b, e)))


CASES = {
    "losses.regression.mean_squared_error": mean_squared_error,
    "losses.regression.mean_absolute_error": mean_absolute_error,
    "losses.regression.huber": huber,
    "losses.regression.smooth_l1": smooth_l1,
    "losses.regression.poisson_nll": poisson_nll,
    "losses.regression.gaussian_nll": gaussian_nll,
    "losses.binary.binary_cross_entropy": binary_cross_entropy,
    "losses.binary.binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "losses.binary.soft_margin": soft_margin,
    "losses.focal.sigmoid_focal": sigmoid_focal,
    "losses.explicit_pairs.hinge_embedding": hinge_embedding,
    "losses.explicit_pairs.cosine_embedding": cosine_embedding,
    "losses.explicit_pairs.margin_ranking_pair": margin_ranking_pair,
    "losses.explicit_triplets.triplet_margin": triplet_margin,
    "losses.explicit_triplets.triplet_margin_with_distance": triplet_margin_with_distance,
    "losses.row_distances.row_distances": rows_apart,
    "losses.row_distances.row_cosines": rows_cosine,
}
