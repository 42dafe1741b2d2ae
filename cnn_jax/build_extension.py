"""Builds the optional kernels for this machine's CPU: `python -m cnn_jax.build_extension`, or `make extension`.

It takes a C++ compiler and ten seconds; nothing is installed but one file in the user's cache. Runs that start afterwards use it.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

from cnn_jax import private_folder
from cnn_jax.errors import UserError
from cnn_jax.ops import extension

COMPILERS = ("c++", "g++", "clang++")  # in this order; $CXX goes before


def build(path: Path | None = None) -> Path:
    """Returns the library's file, compiled for this processor: `extension.library()` unless told. An old one is replaced whole.

    Raises:
      UserError: there is no compiler, or it failed, or the file cannot be written.

    >>> build(Path("/dev/null/kernels.so"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    cnn_jax.errors.UserError: The extension ...
    """
    path = extension.library() if path is None else path
    compiler = next(filter(shutil.which, filter(None, (os.environ.get("CXX"), *COMPILERS))), None)
    if compiler is None:
        raise UserError(
            f"The extension needs a C++ compiler, and none of {', '.join(COMPILERS)} is there. Install one (Debian: apt install g++; "
            f"macOS: xcode-select --install) or name one with CXX=. Without the extension all works as before."
        )
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    options = ["-O3", native, "-std=c++17", "-shared", "-fPIC", "-w", f"-I{jax.ffi.include_dir()}"]
    options += ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
    try:
        private_folder.private_folder(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder, path.name)
            done = subprocess.run([compiler, *options, str(extension.SOURCE), "-o", str(made)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"{compiler} could not compile {extension.SOURCE}:\n{done.stderr.strip()[-2000:]}")
            made.replace(path)
    except OSError as error:
        why = f"The extension cannot be written to {path.parent}: {error.strerror}. XDG_CACHE_HOME names another place."
        raise UserError(why) from None
    return path


def main() -> int:
    """Builds, loads, and says what came of it; returns the exit status."""
    try:
        path = build()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    said = extension.load(path)
    print(f"{path}: {said}. {extension.SWITCH}=0 leaves it unused; deleting the file takes it away.")
    return 0 if said == "loaded" else 1


if __name__ == "__main__":
    sys.exit(main())
