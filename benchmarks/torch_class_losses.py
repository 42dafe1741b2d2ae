"""Cases of losses on classes: of one label, of several, of distributions."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.agreement import case
from benchmarks.reductions import reductions, row_means
from cnn_jax.losses import classification, divergence, focal, multi_label
from cnn_jax.losses.reduction import reduce

SIZES = ((7, 3), (4, 11))
IGNORED = -100


def _labels(draw, shape, k, ignored=False):
    labels = draw.integers(0, k, size=shape).astype(np.int32)
    if ignored:
        labels.flat[1] = IGNORED
    return labels


def _weights(draw, k):
    return tuple(float(np.float32(w)) for w in draw.random(size=k) + 0.2)


def _first(x):
    return x.movedim(-1, 1).contiguous()  # else nll_loss fails at its gradient


def _labelled(draw, ours, function, module, outputs, options):
    """Labels with and without an ignored one, with weights and without, in all reductions, dense and not; the torch way of meaning."""
    for b, k in SIZES:
        for weights in (None, _weights(draw, k)):
            mine = options | ({} if weights is None else {"class_weights": weights})
            renamed = {"label_smoothing": options["smoothing"]} if options else {}
            tensor = lambda x, w=weights: None if w is None else torch.tensor(w, dtype=x.dtype)
            for ignored in (False, True):
                z, labels = outputs(draw, (b, k)), _labels(draw, b, k, ignored)
                mean = partial(_torch_mean, partial(ours, **mine), weights)
                total = lambda z, y, mine=mine: reduce(ours(z, y, **mine), how="sum")
                theirs = lambda z, y, how, t=tensor, o=renamed: module(weight=t(z), reduction=how, **o)(z, y)
                unreduced = lambda z, y, t=tensor, o=renamed: function(z, y, weight=t(z), reduction="none", **o)
                yield case(partial(ours, **mine), unreduced, z, labels)
                yield case(mean, partial(theirs, how="mean"), z, labels)
                yield case(total, partial(theirs, how="sum"), z, labels)
            # Dense: our value is the mean over an example's places.
            z, labels = outputs(draw, (b, 4, 3, k)), _labels(draw, (b, 4, 3), k)
            dense = lambda z, y, t=tensor, o=renamed: row_means(function(_first(z), y, weight=t(z), reduction="none", **o))
            yield case(partial(ours, **mine), dense, z, labels)
        z, labels = outputs(draw, (b, 4, 3, k)), _labels(draw, (b, 4, 3), k)
        yield case(lambda z, y: reduce(ours(z, y)), lambda z, y: function(_first(z), y), z, labels)
        labels[0, :2] = IGNORED
        mean = lambda z, y: reduce(ours(z, y))
        yield case(mean, lambda z, y: function(_first(z), y), z, labels, variant="mean of dense labels, some ignored")


def _torch_mean(ours, weights, z, labels):
    """As the docstrings have it."""
    counts = labels != IGNORED
    by_label = None if weights is None else jnp.asarray(weights, z.dtype)[jnp.where(counts, labels, 0)]
    return reduce(ours(z, labels), counts, weights=by_label)


def _log_probabilities(draw, shape):
    x = draw.normal(size=shape) * 2
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _logits(draw, shape):
    return draw.normal(size=shape) * 2


def negative_log_likelihood(draw):
    """F.nll_loss with weight and ignore_index, dense and not."""
    yield from _labelled(draw, classification.negative_log_likelihood, F.nll_loss, nn.NLLLoss, _log_probabilities, {})


def softmax_cross_entropy(draw):
    """F.cross_entropy with weight, ignore_index, label_smoothing and soft labels, dense and not; also at ±1e4."""
    ours, function, module = classification.softmax_cross_entropy, F.cross_entropy, nn.CrossEntropyLoss
    for smoothing in (0.0, 0.2):
        yield from _labelled(draw, ours, function, module, _logits, {"smoothing": smoothing} if smoothing else {})
        for b, k in SIZES:
            for weights in (None, _weights(draw, k)):
                mine = {"smoothing": smoothing, "class_weights": weights}

                def theirs(z, q, how, s=smoothing, w=weights):
                    w = None if w is None else torch.tensor(w, dtype=z.dtype)
                    return nn.CrossEntropyLoss(weight=w, label_smoothing=s, reduction=how)(z, q)

                arrays = _logits(draw, (b, k)), np.exp(_log_probabilities(draw, (b, k)))
                yield case(partial(ours, **mine), partial(theirs, how="none"), *arrays)
                for how in ("mean", "sum"):
                    yield case(lambda *a, how=how, o=mine: reduce(ours(*a, **o), how=how), partial(theirs, how=how), *arrays)
    # -100 is no special label to either here: another one is, as in segmentation.
    ignoring = {"ignore_index": 2}
    arrays = _logits(draw, (9, 4)), _labels(draw, 9, 4)
    yield case(partial(ours, **ignoring), partial(function, reduction="none", **ignoring), *arrays)
    extremes = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [1e4, 1e4, 1e4]]), np.array([1, 1, 0], np.int32)
    yield case(ours, partial(function, reduction="none"), *extremes, variant="at 0 and ±1e4", pointwise=True)


def poly1(draw):
    """The authors' code over F.cross_entropy: CE + ε·(1 − p)."""
    for b, k in SIZES:
        for epsilon in (1.0, 2.0, -0.5):
            theirs = lambda z, y, e=epsilon: F.cross_entropy(z, y, reduction="none") + e * (
                1 - (F.one_hot(y, z.shape[1]).to(z.dtype) * z.softmax(1)).sum(1)
            )
            yield case(partial(classification.poly1, epsilon=epsilon), theirs, _logits(draw, (b, k)), _labels(draw, b, k))


def focal_loss(draw):
    """The usual torch code over F.cross_entropy: (1 − e^(−CE))^γ·CE."""

    def theirs(z, y, gamma, weights):
        ce = F.cross_entropy(z, y, reduction="none")
        return (1 - torch.exp(-ce)) ** gamma * ce * (1 if weights is None else torch.tensor(weights, dtype=z.dtype)[y])

    for b, k in SIZES:
        for gamma in (2.0, 0.5, 0.0):
            for weights in (None, _weights(draw, k)):
                ours = partial(focal.focal, gamma=gamma, class_weights=weights)
                yield case(ours, partial(theirs, gamma=gamma, weights=weights), _logits(draw, (b, k)), _labels(draw, b, k))


def multi_margin(draw):
    """F.multi_margin_loss with p of 1 and 2, margins and weights."""
    for b, k in SIZES:
        for options in ({}, {"p": 2}, {"margin": 0.4}, {"p": 2, "margin": 2.0}):
            arrays = _logits(draw, (b, k)), _labels(draw, b, k)
            ours = partial(classification.multi_margin, **options)
            yield from reductions(ours, F.multi_margin_loss, nn.MultiMarginLoss, *arrays, options=options)
            weights = _weights(draw, k)
            ours = partial(classification.multi_margin, class_weights=weights, **options)

            def weighted(z, y, weights=weights, options=options):
                return F.multi_margin_loss(z, y, weight=torch.tensor(weights, dtype=z.dtype), reduction="none", **options)

            yield case(ours, weighted, *arrays)
    grid = np.array([[0.0, 1.0, -1.0], [2.0, 1.0, 0.0]]), np.array([0, 0], np.int32)
    yield case(classification.multi_margin, partial(F.multi_margin_loss, reduction="none"), *grid, variant="at kinks and ties")


def multi_label_soft_margin(draw):
    """F.multilabel_soft_margin_loss with weight."""
    ours, function = multi_label.multi_label_soft_margin, F.multilabel_soft_margin_loss
    for b, k in SIZES:
        arrays = _logits(draw, (b, k)), draw.integers(0, 2, size=(b, k)).astype(np.float32)
        yield from reductions(ours, function, nn.MultiLabelSoftMarginLoss, *arrays)
        weights = _weights(draw, k)
        theirs = lambda z, t, w=weights: function(z, t, weight=torch.tensor(w, dtype=z.dtype), reduction="none")
        yield case(partial(ours, class_weights=weights), theirs, *arrays)


def multi_label_margin(draw):
    """F.multilabel_margin_loss, whose targets are lists of classes that end in −1."""
    for b, k in SIZES:
        targets = draw.integers(0, 2, size=(b, k)).astype(np.int32)
        lists = np.full((b, k), -1)
        for row, target in zip(lists, targets, strict=True):
            row[: target.sum()] = np.flatnonzero(target)
        z = _logits(draw, (b, k))

        def function(z, t, reduction, lists=lists):
            return F.multilabel_margin_loss(z, torch.tensor(lists), reduction=reduction)

        def module(reduction, lists=lists):
            loss = nn.MultiLabelMarginLoss(reduction=reduction)
            return lambda outputs, _: loss(outputs, torch.tensor(lists))

        yield from reductions(multi_label.multi_label_margin, function, module, z, targets)


def sigmoid_cross_entropy(draw):
    """F.binary_cross_entropy_with_logits on one-hot labels, summed over classes."""
    for b, k in SIZES:
        for smoothing in (0.0, 0.1):

            def theirs(z, y, s=smoothing):
                t = F.one_hot(y, z.shape[1]).to(z.dtype) * (1 - s) + s / z.shape[1]
                return F.binary_cross_entropy_with_logits(z, t, reduction="none").sum(1)

            ours = partial(multi_label.sigmoid_cross_entropy, smoothing=smoothing)
            yield case(ours, theirs, _logits(draw, (b, k)), _labels(draw, b, k))


def kl_divergence(draw):
    """F.kl_div with log_target and without, batchmean for our mean; also with targets of 0."""
    for b, k in SIZES:
        for log_target in (False, True):
            targets = _log_probabilities(draw, (b, k))
            targets = targets if log_target else np.exp(targets)
            if not log_target:
                targets[0, 1] = 0
            arrays = _log_probabilities(draw, (b, k)), targets
            ours, options = partial(divergence.kl_divergence, log_target=log_target), {"log_target": log_target}
            # The gradient by a target of 0 is infinite.
            about = {} if log_target else {"fixed": (1,)}
            yield case(ours, lambda *a, o=options: F.kl_div(*a, reduction="none", **o).sum(1), *arrays, **about)
            yield case(lambda *a, f=ours: reduce(f(*a)), nn.KLDivLoss(reduction="batchmean", **options), *arrays, **about)
            yield case(lambda *a, f=ours: reduce(f(*a), how="sum"), nn.KLDivLoss(reduction="sum", **options), *arrays, **about)
        arrays = _log_probabilities(draw, (b, k)), np.exp(_log_probabilities(draw, (b, k)))
        yield case(divergence.kl_divergence, lambda *a: F.kl_div(*a, reduction="none").sum(1), *arrays)


def jensen_shannon(draw):
    """Two calls of F.kl_div against the mean distribution."""

    def theirs(p, q):
        m = ((p.exp() + q.exp()) / 2).log()
        return sum(F.kl_div(m, x, reduction="none", log_target=True).sum(1) for x in (p, q)) / 2

    for b, k in SIZES:
        yield case(divergence.jensen_shannon, theirs, _log_probabilities(draw, (b, k)), _log_probabilities(draw, (b, k)))


def distillation(draw):
    """torch's tutorial: T²·F.kl_div of the softened logits, and F.cross_entropy."""

    def theirs(z, teacher, y, temperature, weight):
        soft = [F.log_softmax(x / temperature, 1) for x in (z, teacher)]
        kl = F.kl_div(*soft, reduction="none", log_target=True).sum(1)
        return weight * temperature**2 * kl + (1 - weight) * F.cross_entropy(z, y, reduction="none")

    for b, k in SIZES:
        for options in ({"temperature": 4.0, "weight": 0.9}, {"temperature": 1.5, "weight": 0.3}):
            arrays = _logits(draw, (b, k)), _logits(draw, (b, k)), _labels(draw, b, k)
            # The teacher gets no gradient here.
            yield case(partial(divergence.distillation, **options), partial(theirs, **options), *arrays, fixed=(1,))


def reduced(draw):
    """The mean and sum of torch.Tensor, of what counts, and weighted."""
    values, where, weights = draw.normal(size=9), draw.random(size=9) < 0.6, draw.random(size=9)
    yield case(reduce, torch.mean, values)
    yield case(partial(reduce, how="sum"), torch.sum, values)
    yield case(reduce, lambda v, w: v[w].mean(), values, where)
    yield case(lambda v, w: reduce(v, w, how="sum"), lambda v, w: v[w].sum(), values, where)
    yield case(lambda v, w, u: reduce(v, w, weights=u), lambda v, w, u: v[w].sum() / u[w].sum(), values, where, weights)


CASES = {
    "losses.classification.negative_log_likelihood": negative_log_likelihood,
    "losses.classification.softmax_cross_entropy": softmax_cross_entropy,
    "losses.classification.poly1": poly1,
    "losses.classification.multi_margin": multi_margin,
    "losses.focal.focal": focal_loss,
    "losses.multi_label.multi_label_soft_margin": multi_label_soft_margin,
    "losses.multi_label.multi_label_margin": multi_label_margin,
    "losses.multi_label.sigmoid_cross_entropy": sigmoid_cross_entropy,
    "losses.divergence.kl_divergence": kl_divergence,
    "losses.divergence.jensen_shannon": jensen_shannon,
    "losses.divergence.distillation": distillation,
    "losses.reduction.reduce": reduced,
}
