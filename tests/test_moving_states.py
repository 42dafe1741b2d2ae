"""A state saved on N devices continues on M, in any mode: the same values bit for bit, the same losses to rounding, the same data."""

import os
import subprocess
import sys

from tests.runs import REPOSITORY

# In a process of its own, which has eight devices.
_MOVES = """
import itertools
from functools import partial
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from cnn_jax.build import build, first_state
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.data.pipeline import train_batches
from cnn_jax.evaluate import restore_target
from cnn_jax.parallel import make_parallel
from cnn_jax.train import make_step
from tests.runs import CLASSIFIER, assert_trees_equal
import sys

folder = Path(sys.argv[1])
layouts = list(itertools.product(("jit", "pmap", "fsdp"), (1, 2, 4, 8)))

def host(state):
    return jax.device_get(state.replace(key=jax.random.key_data(state.key)))

def batches(built, first, num):
    source = built.dataset.open("train")
    order = built.sampler(source, 16)
    return list(train_batches(source, order, seed=0, start_step=first, num_steps=first + num, workers=0))

runs = {}
for mode, n in layouts:
    parallel = make_parallel(mode, n)
    built = build(CLASSIFIER, axis_name=parallel.axis_name)
    state = parallel.make(partial(first_state, built))
    step = parallel.compile(make_step(built, parallel), state, parallel.shard(batches(built, 0, 1)[0]), donate=True)
    runs[mode, n] = parallel, built, step
    for batch in batches(built, 0, 2):
        state, _ = step(state, parallel.shard(batch))
    (folder / f"{mode}{n}").mkdir()
    with Checkpoints(folder / f"{mode}{n}" / "checkpoints", best_by="accuracy") as checkpoints:
        checkpoints.save(state, {"accuracy": 0.5})
    runs[mode, n] = parallel, built, step, host(state)
seen = None
for saved in layouts:
    for mode, n in layouts:
        parallel, built, step, _ = runs[mode, n]
        with Checkpoints(folder / f"{saved[0]}{saved[1]}" / "checkpoints", best_by="accuracy") as checkpoints:
            state = checkpoints.restore(2, restore_target(built, parallel))
        assert_trees_equal(host(state), runs[saved][3])
        assert all(len(leaf.sharding.device_set) == n for leaf in jax.tree.leaves(state.params))
        losses, data = [], []
        for batch in batches(built, int(state.step), 2):
            state, measures = step(state, parallel.shard(batch))
            losses.append(float(measures["loss"].result()))
            data.append(batch["inputs"])
        seen = seen or (losses, data)
        np.testing.assert_allclose(losses, seen[0], rtol=2e-4)
        for ours, theirs in zip(data, seen[1], strict=True):
            np.testing.assert_array_equal(ours, theirs)
print("moved", len(layouts) ** 2)
"""


def test_any_number_of_devices_to_any_other_in_any_mode(tmp_path):
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", _MOVES, str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout == "moved 144\n"
