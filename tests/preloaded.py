"""Small C libraries that stand between a process and the system: a kill, or a change of the date, looks like that from inside."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import REPOSITORY


def preloaded(name: str, folder: Path) -> Path:
    """Compiles `tests/<name>.c` to a library for LD_PRELOAD; skips the test where that cannot be."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler")
    library, source = folder / f"{name}.so", REPOSITORY / "tests" / f"{name}.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-D_FILE_OFFSET_BITS=32", "-o", library, source, "-ldl"], check=True)
    return library
