"""Printing never ends a run: readers that are gone, and disks that are full."""

import os
import subprocess
import sys

import pytest

from tests.runs import REPOSITORY

_PRINTS = """
import sys
from cnn_jax.output import unfailing
@unfailing()
def main():
    for _ in range(2000):
        print("a line that is long enough to fill the buffer after some time", flush=True)
        print("as this one is", file=sys.stderr)
    sys.exit(75)
main()
"""


@pytest.mark.parametrize("reader", ["gone", "full disk"])
def test_what_nobody_can_read_is_dropped(reader):
    if reader == "gone":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full", os.O_WRONLY)
    try:
        command = [sys.executable, "-c", _PRINTS]
        assert subprocess.run(command, cwd=REPOSITORY, stdout=write, stderr=write, timeout=60, check=False).returncode == 75
    finally:
        os.close(write)
