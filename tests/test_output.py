"""Printing never ends a run: readers that are gone, and disks that are full."""

import os
import signal
import subprocess
import sys
import time

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


def test_a_second_signal_is_obeyed_though_nobody_reads():
    code = """
import ctypes
from cnn_jax.stopping import Stop
with Stop() as stop:
    print("ready", flush=True)
    libc = ctypes.CDLL(None)
    for _ in range(3):
        libc.sleep(1000)
"""
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert process.stdout.readline() == "ready\n"
    os.close(read)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert process.wait(20) == 128 + signal.SIGTERM
    process.stdout.close()
