"""Optimizers, learning-rate schedules, the weight-decay mask and the moving average of a state."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cnn_jax.ops.arguments import check_flag, check_function, check_number, check_whole, is_several
from cnn_jax.types import PyTree

Factor = Callable[[jax.typing.ArrayLike], jax.Array]
"""A schedule: update number -> factor in [0, 1] of the optimizer's learning rate."""


def constant(num_steps: int) -> Factor:
    """Returns the factor 1 throughout.

    Raises:
      ValueError: num_steps is below 1.

    >>> float(constant(10)(3))
    1.0
    """
    check_whole("num_steps", num_steps)
    return lambda step: jnp.ones(())


def warmup_cosine(num_steps: int, *, warmup_steps: int = 0, end_factor: float = 0.0) -> Factor:
    """Returns a linear rise from 0 to 1 over `warmup_steps`, then half a cosine down to `end_factor` at `num_steps`.

    Args:
      warmup_steps: at least 0; all of `num_steps` where it is more.
      end_factor: from 0 to 1.

    Raises:
      ValueError: one of them is out of its range.

    Reference: Loshchilov & Hutter, "SGDR", 2016; Goyal et al. 2017 for the warm-up.

    >>> [round(float(warmup_cosine(10, warmup_steps=2)(step)), 3) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup_steps = _checked_warmup(num_steps, warmup_steps)
    _check_share("end_factor", end_factor)
    falling = optax.cosine_decay_schedule(1.0, max(num_steps - warmup_steps, 1), alpha=end_factor)
    return _after_warmup(warmup_steps, falling)


def piecewise(
    num_steps: int, *, drops: tuple[float, ...] = (0.5, 0.75), drop_factor: float = 0.1, warmup_steps: int = 0
) -> Factor:
    """Returns the factor 1, multiplied by `drop_factor` at each of `drops`, which are shares of `num_steps`.

    Args:
      drops: from 0, below 1.
      drop_factor: from 0 to 1.
      warmup_steps: updates in which the factor rises from 0 to 1.

    Raises:
      ValueError: one of them is out of its range.

    Reference: torch's MultiStepLR, whose milestones are counted in epochs.

    >>> [round(float(piecewise(8)(step)), 3) for step in (0, 4, 6)]
    [1.0, 0.1, 0.01]
    """
    warmup_steps = _checked_warmup(num_steps, warmup_steps)
    _check_share("drop_factor", drop_factor)
    if not is_several(drops):
        raise ValueError(f"drops={drops!r} must be a tuple of shares of num_steps, each at least 0 and less than 1")
    for share in drops:
        _check_range("drops", share, 0, 1)
    at = [round(share * num_steps) - warmup_steps for share in drops]
    bounds = {step: drop_factor ** at.count(step) for step in at}  # two that fall on one update drop twice
    return _after_warmup(warmup_steps, optax.piecewise_constant_schedule(1.0, bounds))


def _checked_warmup(num_steps: int, warmup_steps: int) -> int:
    check_whole("num_steps", num_steps)
    check_whole("warmup_steps", warmup_steps, least=0)
    return min(warmup_steps, num_steps)


def _after_warmup(warmup_steps: int, then: Factor) -> Factor:
    if not warmup_steps:
        return then
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup_steps), then], [warmup_steps])


def sgd(
    factor: Factor, *, learning_rate: float = 0.1, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Returns stochastic gradient descent with momentum; weight decay is added to the kernels' gradients.

    v ← momentum·v + g + weight_decay·w;  w ← w − lr·(g + momentum·v) with Nesterov, w − lr·v without; torch's form.

    Args:
      factor: of the learning rate, by update.
      learning_rate: not negative.
      momentum: from 0, below 1.
      weight_decay: not negative.

    Raises:
      ValueError: one of them is out of its range.

    Reference: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    >>> tx, w = sgd(constant(1), learning_rate=0.5, momentum=0.0, nesterov=False), {"kernel": jnp.ones(1)}
    >>> tx.update({"kernel": jnp.full(1, 3.0)}, tx.init(w), w)[0]["kernel"].tolist()
    [-1.5]
    """
    _check_factor(factor)
    _check_range("learning_rate", learning_rate, 0)
    _check_range("momentum", momentum, 0, 1)
    check_flag("nesterov", nesterov)
    _check_range("weight_decay", weight_decay, 0)
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=kernels_only),
        optax.sgd(lambda step: learning_rate * factor(step), momentum=momentum, nesterov=nesterov),
    )


def adamw(
    factor: Factor,
    *,
    learning_rate: float = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.05,
) -> optax.GradientTransformation:
    """Returns Adam with decoupled weight decay on kernels, scaled by the learning rate as in torch.

    Args:
      factor: of the learning rate, by update.
      learning_rate, weight_decay: not negative.
      b1, b2: from 0, below 1.
      epsilon: added to the root of the second moment; not negative.

    Raises:
      ValueError: one of them is out of its range.

    Reference: Loshchilov & Hutter, "Decoupled weight decay regularization", 2017.

    >>> tx, w = adamw(constant(1), learning_rate=0.5, weight_decay=0.0), {"kernel": jnp.ones(1)}
    >>> round(tx.update({"kernel": jnp.full(1, 3.0)}, tx.init(w), w)[0]["kernel"].item(), 4)  # the first step has the learning rate's size
    -0.5
    """
    _check_factor(factor)
    _check_range("learning_rate", learning_rate, 0)
    _check_range("b1", b1, 0, 1)
    _check_range("b2", b2, 0, 1)
    _check_range("epsilon", epsilon, 0)
    _check_range("weight_decay", weight_decay, 0)
    lr = lambda step: learning_rate * factor(step)
    return optax.adamw(lr, b1=b1, b2=b2, eps=epsilon, weight_decay=weight_decay, mask=kernels_only)


def _check_factor(factor: Factor) -> None:
    check_function("factor", factor, "a schedule: a function update -> factor, such as constant(num_steps)")


def _check_range(name: str, value: float, low: float, below: float = math.inf) -> None:
    rule = f"at least {low:g} and " + ("finite" if below == math.inf else f"less than {below:g}")
    check_number(name, value, lambda v: low <= v < below, rule)


def _check_share(name: str, value: float) -> None:
    check_number(name, value, lambda v: 0 <= v <= 1, "from 0 to 1")


def clipped(tx: optax.GradientTransformation, max_norm: float | None) -> optax.GradientTransformation:
    """Returns `tx` on gradients scaled down to a global norm of at most `max_norm`; None leaves them as they are.

    The state has the same form either way, so that clipping can be turned on in a run that needs it.

    Args:
      max_norm: positive.

    Raises:
      ValueError: max_norm is not positive and finite.

    Reference: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.

    >>> tx, g = clipped(optax.identity(), 1.0), jnp.array([3.0, 4.0])
    >>> [round(x, 4) for x in tx.update(g, tx.init(g))[0].tolist()]
    [0.6, 0.8]
    """
    if max_norm is not None:
        check_number("max_norm", max_norm, lambda v: 0 < v < math.inf, "positive and finite, or None")
    return optax.chain(optax.identity() if max_norm is None else optax.clip_by_global_norm(max_norm), tx)


def apart(tx: optax.GradientTransformation, others: optax.GradientTransformation, name: str) -> optax.GradientTransformation:
    """Returns `others` for the parameters under `name`, such as the weights of a loss, and `tx` for all the rest.

    >>> tx = apart(optax.sgd(0.5), optax.sgd(2.0), "loss")
    >>> params = {"conv": {"kernel": 1.0}, "loss": {"vectors": 1.0}}
    >>> tx.update(params, tx.init(params), params)[0]
    {'conv': {'kernel': -0.5}, 'loss': {'vectors': -2.0}}
    """
    return optax.partition({"rest": tx, name: others}, lambda params: {key: name if key == name else "rest" for key in params})


def kernels_only(params: PyTree) -> PyTree:
    """Returns the mask of what weight decay applies to: kernels, not biases or normalisation.

    >>> kernels_only({"conv": {"kernel": 1.0, "bias": 2.0}})
    {'conv': {'bias': False, 'kernel': True}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.startswith("kernel"), params)


def moving_average(decay: float) -> Callable[[PyTree, PyTree, jax.Array], PyTree]:
    """Returns f(average, new, step) = d·average + (1 − d)·new with d = min(decay, (1 + step) / (10 + step)).

    The second bound forgets the random start soon: the rule of TensorFlow's ExponentialMovingAverage.

    Args:
      decay: from 0 to 1.

    Raises:
      ValueError: it is outside.

    >>> float(moving_average(0.5)(0.0, 1.0, jnp.array(100)))
    0.5
    """
    _check_share("decay", decay)

    def update(average: PyTree, new: PyTree, step: jax.Array) -> PyTree:
        d = jnp.minimum(decay, (1 + step) / (10 + step))
        return jax.tree.map(lambda a, n: d * a + (1 - d) * n, average, new)

    return update


def no_average(average: PyTree, new: PyTree, step: jax.Array) -> PyTree:
    """Returns the average unchanged: stands in where none is kept.

    >>> no_average("average", "new", 0)
    'average'
    """
    del new, step
    return average
