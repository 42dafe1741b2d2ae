"""Losses that compare examples, over several devices, under jit and pmap: loss and gradients, by learned weights too, are one device's."""

import os
import subprocess
import sys

import pytest

from cnn_jax.options import reads
from cnn_jax.registry import LOSSES, MINERS
from tests.runs import REPOSITORY

# A loss of logits or distances is a value for each example alone.
COMPARING = {name for name, loss in LOSSES.items() if reads(loss) in ("embeddings", "scores")}


def compared(*arguments):
    """What the program has compared: {(loss, way, number of devices)}."""
    command = [sys.executable, "-m", "tests.losses_over_devices", *arguments]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=3000, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return {tuple(line.split("\t")) for line in result.stdout.splitlines()}


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_number_of_devices_changes_no_loss(few):
    """Each under jit and under pmap; `make slow` on 1, 2, 4 and 8 devices each, otherwise on 2, 4 or 8 in turn."""
    found = compared("--few") if few else compared()
    names = {name for name, _, _ in found}
    assert names >= COMPARING
    assert sum("mined by" in name for name in names) == len(MINERS)
    for way in ("under_jit", "under_pmap"):
        sizes = {name: {int(num) for other, how, num in found if (other, how) == (name, way)} for name in names}
        assert set.union(*sizes.values()) >= {2, 4, 8}
        assert all(sizes.values()) if few else all(s == {1, 2, 4, 8} for s in sizes.values())
