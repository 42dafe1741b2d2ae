"""How a finished run compares with what its experiment is expected to reach."""

import jax

from cnn_jax.check import resolve
from cnn_jax.experiment import Experiment, differences
from cnn_jax.precision import settled
from cnn_jax.report import spelled


def changes(registered: Experiment, experiment: Experiment, *, platform: str | None = None) -> list[str]:
    """Returns "key: old -> new" for what differs, the seed apart, from the registered experiment as its range was measured: on a CPU.

    Args:
      platform: of the devices the experiment has run on; None for those of this process.

    >>> import dataclasses
    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> changes(mine, dataclasses.replace(mine, seed=1, precision="bfloat16"), platform="cpu")
    ['precision: float32 -> bfloat16']
    """
    measured, here = settled(resolve(registered), "cpu"), settled(resolve(experiment), platform or jax.default_backend())
    return [f"{key}: {old} -> {new}" for key, old, new in differences(measured, here) if key != "seed"]


def verdict(experiment: Experiment, figures: dict[str, float], changed: list[str]) -> str:
    """Returns the sentence that compares the final figures with the experiment's expected range.

    Args:
      changed: settings that differ from the registered experiment, "key: old -> new".

    >>> from cnn_jax.experiment import About, Expected, Spec
    >>> about = About(shows="", num_params=0, expected=Expected(metric="accuracy", low=0.9))
    >>> mine = Experiment(name="mine", about=about, model=Spec("lenet5"), dataset=Spec("digits"))
    >>> verdict(mine, {"accuracy": 0.95}, [])
    'final test accuracy 0.9500 is within the expected 0.9 to 1'
    """
    expected = experiment.about.expected
    if expected is None or expected.metric not in figures:
        return "no expected range to compare with: in this form the experiment is unmeasured"
    value = figures[expected.metric]
    inside = expected.low <= value <= expected.high
    name = spelled(expected.metric)
    line = f"final test {name} {value:.4f} is {'within' if inside else 'OUTSIDE'} the expected {expected.low:g} to {expected.high:g}"
    return line if not changed else f"{line} (which is for the registered settings; changed here: {'; '.join(changed)})"
