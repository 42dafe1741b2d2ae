"""What must be set before the first array exists: flags of the compiler, the allocator, the compile cache, the number of devices.

One call, `set_up()`, before anything is computed. Each part can be turned off, and leaves alone what the user has set already.
"""

import contextlib
import os
import platform
import warnings
from pathlib import Path

import jax
import jaxlib

from cnn_jax import allocator, private_folder
from cnn_jax.errors import UserError
from cnn_jax.ops import extension, onednn

MAX_CPU_DEVICES = max(8, os.cpu_count() or 1)  # the most devices that a CPU is split into

# Flags of XLA's CPU compiler, each with the first two numbers of the jaxlib versions that know it: an unknown flag ends the process.
# They mean nothing to other devices. An XLA_FLAGS that names one already keeps its value; with nothing behind `=` it restores XLA's own.
COMPILER_OPTIONS = {
    # Convolutions by Eigen rather than YNNPACK, whose kernel gradients take two to four times as long (docs/performance.md); sums and
    # products stay with YNNPACK.
    "--xla_cpu_experimental_ynn_fusion_type": ("-individual_convolution", ("0.10", "0.11", "0.12")),
}

CACHE_SWITCH = "CNN_JAX_COMPILE_CACHE"  # an environment variable: 0 for none, else the folder
_WORTH_KEEPING = 0.3  # seconds of compiling

_done: dict[str, str] = {}


def set_up(num_devices: int | None = None) -> None:
    """Prepares this process for fast computation, on `num_devices`. A CPU is split into so many devices; accelerators are left as they are.

    Called again, it does nothing but check the number of devices.

    Raises:
      UserError: fewer than one, or more devices than a CPU is sensibly split into.

    >>> set_up(0)
    Traceback (most recent call last):
    cnn_jax.errors.UserError: --num_devices=0: it must be at least 1. Leave the flag out to use all devices.
    """
    if num_devices is not None and num_devices < 1:
        raise UserError(f"--num_devices={num_devices}: it must be at least 1. Leave the flag out to use all devices.")
    if not _done:
        _done["allocator"] = allocator.keep_memory()
        _done["xla_flags"] = _set_flags()
        _done["compile_cache"] = _set_cache()
        unused = f"not used with jaxlib {jaxlib.__version__} on {platform.machine()}"
        _done["onednn"] = "that of jaxlib" if onednn.is_available() else unused
        _done["extension"] = extension.load()
    _split(num_devices)


def settings() -> dict[str, str]:
    """Returns what `set_up` has set, for the record of a run; {} if it was not called.

    >>> settings().keys() <= {"allocator", "xla_flags", "compile_cache", "onednn", "extension"}
    True
    """
    return dict(_done)


def _set_flags() -> str:
    given = os.environ.get("XLA_FLAGS", "")
    version = ".".join(jaxlib.__version__.split(".")[:2])
    added = [f"{name}={value}" for name, (value, versions) in COMPILER_OPTIONS.items() if version in versions and name not in given]
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *added])
    return os.environ["XLA_FLAGS"]


def _set_cache() -> str:
    """Compiled programs are code that is run as it is: the folder is the user's alone, and of processors with the same instructions."""
    asked = os.environ.get(CACHE_SWITCH, "")
    if asked == "0" or jax.config.jax_compilation_cache_dir is not None:
        return str(jax.config.jax_compilation_cache_dir or f"none: {CACHE_SWITCH}=0")
    folder = Path(asked).expanduser() if asked else private_folder.home() / private_folder.machine()
    try:
        folder = private_folder.private_folder(folder)
    except OSError as error:
        return f"none: {folder}: {error.strerror}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    # XLA cannot write down a program that calls oneDNN; it is compiled anew by each process, as all are without a cache.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry.*bad_alloc")
    return str(folder)


def _split(num_devices: int | None) -> None:
    if num_devices is None or num_devices == jax.config.jax_num_cpu_devices:
        return
    if num_devices > MAX_CPU_DEVICES and jax.default_backend() == "cpu":
        raise UserError(
            f"--num_devices={num_devices}, but a CPU is split into at most {MAX_CPU_DEVICES} devices here. "
            f"Leave the flag out, or choose 1 to {MAX_CPU_DEVICES}."
        )
    # Where jax has started already it is too late; `make_parallel` then says how many devices there are.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_devices)
