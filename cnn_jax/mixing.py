"""Examples made of two, by mixup or CutMix: what that does to targets, losses and metrics."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnn_jax.ops.arguments import check_array, check_function
from cnn_jax.ops.augment import Mixed
from cnn_jax.ops.random import check_key
from cnn_jax.types import LossFn, MetricFn, PyTree

MixFn = Callable[..., tuple[jax.Array, PyTree]]  # (key, images, targets) -> the mixed images and their targets


class MixedTargets(NamedTuple):
    """Targets of mixed examples: each one's own, those of what is mixed into it, and the share of its own, all [b]."""

    own: PyTree
    partner: PyTree
    weight: jax.Array


def unmixed(key: jax.Array, images: jax.Array, targets: PyTree, *, axis_name: str | None = None) -> tuple[jax.Array, PyTree]:
    """Returns (images, targets) as they are.

    >>> unmixed(jax.random.key(0), "images", "targets")
    ('images', 'targets')
    """
    del key, axis_name
    return images, targets


def make_mix(mixtures: Sequence[Callable[..., Mixed]]) -> MixFn:
    """Returns (key, images, targets) -> (mixed images, MixedTargets), by one of the mixtures, drawn anew for each batch.

    Args:
      mixtures: at least one, such as `ops.augment.mixup`.

    Raises:
      ValueError: there is no mixture, or one is no function; what is returned refuses what is no key, or images without a target each.

    >>> def swapped(key, images, *, axis_name=None):
    ...     return Mixed(images[::-1], partners=jax.numpy.array([1, 0]), weights=jax.numpy.zeros(2))
    >>> images, targets = make_mix([swapped])(jax.random.key(0), jax.numpy.ones((2, 4, 4, 1)), jax.numpy.array([3, 5]))
    >>> targets.own.tolist(), targets.partner.tolist()
    ([3, 5], [5, 3])
    """

    mixtures = tuple(mixtures) if isinstance(mixtures, Sequence) else (mixtures,)
    if not mixtures:
        raise ValueError("mixtures=() must hold at least one; `unmixed` mixes nothing")
    for mixture in mixtures:
        check_function("mixtures", mixture, "functions such as mixup and cutmix")

    def mix(key, images, targets, *, axis_name=None):
        check_key(key)
        check_array("images", images)
        check_array("targets", targets)
        if targets.shape[:1] != images.shape[:1]:
            raise ValueError(f"images {list(images.shape)} but targets {list(targets.shape)}: there must be a target for each image")
        choice_key, mix_key = jax.random.split(key)
        branches = [lambda images, m=m: m(mix_key, images, axis_name=axis_name) for m in mixtures]
        mixed = lax.switch(jax.random.randint(choice_key, (), 0, len(branches)), branches, images)
        everyones = targets if axis_name is None else lax.all_gather(targets, axis_name, tiled=True)
        return mixed.images, MixedTargets(targets, jnp.asarray(everyones)[mixed.partners], mixed.weights)

    return mix


def mixed_loss(loss_fn: LossFn) -> LossFn:
    """Returns w · loss(own target) + (1 − w) · loss(partner's target): mixup as its authors compute it.

    Raises:
      ValueError: `loss_fn` is no function; what is returned refuses targets that `make_mix` did not make.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017.

    >>> loss = mixed_loss(lambda outputs, targets, *, where: (outputs - targets) ** 2)
    >>> loss(jax.numpy.ones(1), MixedTargets(own=jax.numpy.ones(1), partner=jax.numpy.zeros(1), weight=jax.numpy.full(1, 0.75))).tolist()
    [0.25]
    """

    check_function("loss_fn", loss_fn, "a loss of outputs and targets")

    def loss(outputs, targets, *, where=None):
        if not isinstance(targets, MixedTargets):
            raise ValueError(f"targets must be MixedTargets, as make_mix gives them, got {type(targets).__name__}")
        own, partner = (loss_fn(outputs, t, where=where) for t in (targets.own, targets.partner))
        return targets.weight * own + (1 - targets.weight) * partner

    return loss


def of_own_target(metric_fn: MetricFn) -> MetricFn:
    """Returns the metric against the examples' own targets.

    Raises:
      ValueError: `metric_fn` is no function.

    >>> of_own_target(lambda outputs, targets, *, where: targets)(None, MixedTargets("own", "partner", 0.75))
    'own'
    """
    check_function("metric_fn", metric_fn, "a metric of outputs and targets")
    return lambda outputs, targets, *, where=None: metric_fn(outputs, targets.own, where=where)
