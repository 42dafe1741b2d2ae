"""The user's own folder for what is run as it is: compiled programs and libraries, which nobody else may have written."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jaxlib


def private_folder(path: Path) -> Path:
    """Returns the folder, made if need be for this user alone.

    Raises:
      OSError: it cannot be made, or others can write to it.

    >>> import tempfile
    >>> private_folder(Path(tempfile.mkdtemp(), "mine")).name
    'mine'
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = path.stat()
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
        raise PermissionError(0, "others can write to it")
    return path.resolve()


def home() -> Path:
    """Returns where this project's folders lie: in the user's cache.

    >>> home().name
    'cnn_jax'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnn_jax"


def machine() -> str:
    """Returns a name for jaxlib and what this processor can do: machines that share a home are not to share what they cannot run.

    >>> machine().startswith("jaxlib-")
    True
    """
    can = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        can = hashlib.sha256(flags.encode()).hexdigest()[:12]
    return f"jaxlib-{jaxlib.__version__}-{can}"
