"""Losses on embeddings over 1, 2, 4 and 8 devices, under jit and pmap: loss and gradient are those of one device.

In a process of its own, since the suite's has four devices.
"""

import subprocess
import sys

from tests.runs import REPOSITORY

PROGRAM = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
import inspect
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from cnn_jax.losses.reduction import masked_mean
from cnn_jax.options import reads
from cnn_jax.registry import LOSSES
from cnn_jax.step import gather

draw = np.random.default_rng(0)
x, labels, where = jnp.array(draw.normal(size=(16, 4))), jnp.array(draw.integers(0, 4, 16)), jnp.array(draw.random(16) < 0.8)
checked = 0
for name, function in LOSSES.items():
    if reads(function) != "embeddings" or inspect.isclass(function):
        continue

    def mean(x, labels, where, axis_name=None):
        x, labels, where = gather((x, labels, where), axis_name)
        return masked_mean(function(x, labels, where=where), where)

    one = jax.jit(jax.value_and_grad(mean))(x, labels, where)
    results = []
    for n in (2, 4, 8) if name in ("triplet_batch_all", "supervised_contrastive") else (8,):
        split = NamedSharding(jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n]), PartitionSpec("data"))
        results.append(jax.jit(jax.value_and_grad(mean), in_shardings=(split,) * 3)(x, labels, where))
        if name in ("triplet_batch_all", "supervised_contrastive", "smooth_ap"):
            def on_one(x, labels, where):
                value, gradient = jax.value_and_grad(lambda x: mean(x, labels, where, "data"))(x)
                return value, gradient / n  # the gather's transpose has summed what n devices hold alike
            shards = [a.reshape(n, -1, *a.shape[1:]) for a in (x, labels, where)]
            value, gradient = jax.pmap(on_one, "data", devices=jax.devices()[:n])(*shards)
            results.append((value[0], gradient.reshape(x.shape)))
    for value, gradient in results:
        np.testing.assert_allclose(value, one[0], rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(gradient, one[1], rtol=1e-7, atol=1e-10, err_msg=name)
    checked += 1
print("checked", checked)
"""


def test_the_number_of_devices_changes_no_loss():
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[-1]) >= 20
