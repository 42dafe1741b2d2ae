"""In what a network computes: what the experiment says, or, for "auto", what suits the kind of device."""

import dataclasses

from cnn_jax.experiment import Experiment

# Platforms, as `jax.default_backend()` names them, whose matrix units multiply bfloat16 several times as fast as float32.
BFLOAT16_PLATFORMS = ("gpu", "cuda", "rocm", "tpu")


def precision_on(platform: str) -> str:
    """Returns what "auto" stands for: "bfloat16" on GPU and TPU, "float32" on a CPU and on anything unknown.

    Parameters, BatchNorm's statistics, outputs and losses are float32 in both. Losses are not scaled: bfloat16 has float32's exponent
    range, so no gradient is lost that float32 would have kept; float16 would need it.

    Args:
      platform: of the devices, as `jax.default_backend()` names it.

    >>> precision_on("cpu"), precision_on("gpu"), precision_on("tpu")
    ('float32', 'bfloat16', 'bfloat16')
    """
    return "bfloat16" if platform in BFLOAT16_PLATFORMS else "float32"


def settled(experiment: Experiment, platform: str) -> Experiment:
    """Returns the experiment with its precision said: the policy's for this platform where it is "auto", else its own.

    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> mine.precision, settled(mine, "tpu").precision, settled(dataclasses.replace(mine, precision="float32"), "tpu").precision
    ('auto', 'bfloat16', 'float32')
    """
    return dataclasses.replace(experiment, precision=precision_on(platform)) if experiment.precision == "auto" else experiment


def explained(asked: str, platform: str) -> str:
    """Returns the precision of computations on this platform and who chose it, for people to read.

    Args:
      asked: the experiment's, "auto" or a precision.

    >>> explained("auto", "cpu"), explained("float32", "gpu")
    ('float32 (by policy on cpu)', 'float32 (as set)')
    >>> explained("auto", "gpu")
    'bfloat16 (by policy on gpu), parameters, statistics and losses in float32'
    """
    computed, who = (precision_on(platform), f"by policy on {platform}") if asked == "auto" else (asked, "as set")
    return f"{computed} ({who})" + ("" if computed == "float32" else ", parameters, statistics and losses in float32")
