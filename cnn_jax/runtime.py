"""What must be set before the first array exists."""

import contextlib
import os

import jax

from cnn_jax.errors import UserError

MAX_CPU_DEVICES = max(8, os.cpu_count() or 1)  # the most devices that a CPU is split into


def set_up(num_devices: int | None = None) -> None:
    """Prepares jax for `num_devices`. A CPU is split into so many devices; accelerators are left as they are.

    Raises:
      UserError: fewer than one, or more devices than a CPU is sensibly split into.

    >>> set_up(0)
    Traceback (most recent call last):
    cnn_jax.errors.UserError: --num_devices=0: it must be at least 1. Leave the flag out to use all devices.
    """
    if num_devices is None or num_devices == jax.config.jax_num_cpu_devices:
        return
    if num_devices < 1:
        raise UserError(f"--num_devices={num_devices}: it must be at least 1. Leave the flag out to use all devices.")
    if num_devices > MAX_CPU_DEVICES and jax.default_backend() == "cpu":
        raise UserError(
            f"--num_devices={num_devices}, but a CPU is split into at most {MAX_CPU_DEVICES} devices here. "
            f"Leave the flag out, or choose 1 to {MAX_CPU_DEVICES}."
        )
    # Where jax has started already it is too late; `make_parallel` then says how many devices there are.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_devices)
