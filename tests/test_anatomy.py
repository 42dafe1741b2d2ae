"""The rows of a network taken apart against brute force: connections, geometry and paths."""

import csv
import json
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.anatomy import anatomy, field_of
from cnn_jax.inspection import inspect
from cnn_jax.layers import Conv, ConvTranspose
from cnn_jax.ops.pool import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    blur_pool,
    global_average_pool,
    l2_pool,
    max_blur_pool,
    max_pool,
)


class Steps(nn.Module):
    """Layers and poolings one after the other: each (class or function, arguments, options)."""

    steps: tuple

    @nn.compact
    def __call__(self, x, train: bool):
        for step, arguments, options in self.steps:
            x = step(*arguments, **options)(x) if isinstance(step, type) else step(x, *arguments, **options)
        return x


def pooled(pool, *arguments, **options):
    return Steps(((pool, arguments, options),))


def num_pairs(model, shape):
    """Entries of the Jacobian that are not zero, for positive weights; of maxima, inputs that change an output when they are largest."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))
    variables = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
    inputs = np.concatenate([np.ones((1, *shape)), np.ones((1, *shape)) + np.eye(math.prod(shape)).reshape(-1, *shape)])
    outputs = np.asarray(jax.jit(lambda x: model.apply(variables, x, train=False))(jnp.array(inputs, jnp.float32)))
    return np.count_nonzero(np.abs(outputs[1:] - outputs[:1]) > 1e-6)


def conv(features, *window, **options):
    return Steps(((Conv, (features, window), {"use_bias": False, **options}),))


def transposed(features, *window, **options):
    return Steps(((ConvTranspose, (features, window), {"use_bias": False, **options}),))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (conv(3, 3, padding="CAUSAL", dilation=2), (7, 2)),
        (conv(4, 4, stride=3, padding="SAME", groups=2), (9, 4)),
        (conv(2, 3, 3, padding=1, input_dilation=2), (5, 4, 2)),
        (conv(2, 3, 2, stride=(2, 1), input_dilation=(1, 3), padding="SAME"), (6, 4, 1)),
        (conv(2, 2, 3, stride=(1, 2), dilation=(3, 1), padding=((2, 0), 1)), (7, 6, 1)),
        (conv(2, 3, 4, padding="VALID"), (5, 6, 2)),
        (conv(2, 1, 3, 2, stride=(1, 2, 1), padding="SAME"), (2, 5, 4, 2)),
        (conv(1, 4, 3, padding=2, border="reflect"), (6, 5, 1)),
        (conv(1, 3, 4, padding=2, dilation=2, border="circular"), (7, 8, 1)),
        (conv(1, 2, 5, padding="SAME", stride=(2, 1), border="replicate"), (6, 5, 1)),
        (transposed(2, 3, 3, stride=2, padding=1, output_padding=1), (4, 4, 2)),
        (transposed(4, 3, 2, stride=(2, 3), padding="SAME", groups=2), (3, 4, 2)),
        (transposed(2, 4, stride=3, padding=((1, 2),), dilation=2, output_padding=2), (5, 3)),
        (transposed(1, 2, 1, 3, stride=(2, 1, 2), padding="VALID"), (2, 3, 2, 2)),
        (pooled(max_pool, 2, dilation=3), (8, 8, 1)),
        (pooled(max_pool, (3, 2), stride=(2, 1), padding=1, dilation=(2, 1)), (9, 6, 2)),
        (pooled(max_pool, 3, stride=2, padding="SAME"), (8, 7, 1)),
        (pooled(max_pool, 7, stride=2, padding=3), (9, 8, 1)),
        (pooled(average_pool, 3, stride=2, ceil_mode=True), (8, 6, 1)),
        (pooled(l2_pool, (1, 2, 3), stride=(1, 2, 2), padding=(0, 1, 1)), (2, 5, 4, 1)),
        (pooled(blur_pool, window=4), (7, 6, 1)),
        (pooled(blur_pool, window=(3, 5), border="circular"), (7, 8, 1)),
        (pooled(blur_pool, border="zeros", stride=(1, 2)), (7, 8, 1)),
        (pooled(max_blur_pool, 2), (8, 7, 1)),
        (pooled(adaptive_average_pool, (3, 2)), (8, 6, 2)),
        (pooled(adaptive_max_pool, 3), (7, 2)),
        (pooled(global_average_pool), (3, 4, 2)),
    ],
    ids=lambda value: None if isinstance(value, tuple) else value.steps[0][0].__name__,
)
def test_connections_equal_counting_what_changes(model, shape):
    (row,) = anatomy(model, shape)
    assert row.connections == num_pairs(model, shape)


def test_the_bias_is_a_connection_of_each_neuron():
    (row,) = anatomy(transposed(2, 3, 3, stride=2, padding=1, output_padding=1, use_bias=True), (4, 4, 2))
    assert row.neurons == 8 * 8 * 2
    assert row.connections == 11 * 11 * 2 * 2 + row.neurons


@pytest.mark.parametrize(
    ("model", "shape", "geometry"),
    [
        (conv(1, 3, 3, stride=2), (8, 8, 1), "3×3 /2 pad 0,1"),
        (conv(1, 3, 3, stride=2), (7, 8, 1), "3×3 /2 pad 1×0,1"),
        (conv(1, 3, 5, padding=((1, 1), (2, 2))), (8, 8, 1), "3×5 pad 1×2"),
        (conv(1, 3, 3, padding=1), (8, 8, 1), "3×3 pad 1"),
        (conv(2, 3, padding="CAUSAL", dilation=2, groups=2), (8, 2), "3 pad 4,0 dilated 2 in 2 groups"),
        (conv(1, 3, 3, border="reflect"), (8, 8, 1), "3×3 pad 1 reflect"),
        (conv(1, 1, 1, border="reflect"), (8, 8, 1), "1×1"),
        (conv(1, 3, 3, padding=0, input_dilation=2), (8, 8, 1), "3×3 input dilated 2"),
        (transposed(1, 3, 3, stride=2, padding=1, output_padding=1), (4, 4, 1), "3×3 /2 pad 1 output pad 1"),
        (transposed(1, 3, 3, stride=2), (4, 4, 1), "3×3 /2 pad 0,1"),
        (transposed(1, 2, 2, stride=2, padding=0), (4, 4, 1), "2×2 /2"),
        (pooled(max_pool, 2, dilation=3), (8, 8, 1), "2×2 /2 dilated 3"),
        (pooled(max_pool, 3, stride=2, padding=1), (8, 8, 1), "3×3 /2 pad 1"),
        (pooled(max_pool, 3, stride=2, padding="SAME"), (8, 8, 1), "3×3 /2 pad 0,1"),
        (pooled(average_pool, 2, ceil_mode=True), (7, 8, 1), "2×2 /2 pad 0,1×0"),
        (pooled(blur_pool), (8, 8, 1), "3×3 /2 pad 1 reflect"),
        (pooled(blur_pool, border="replicate"), (7, 7, 1), "3×3 /2 pad 1 replicate"),
        (pooled(blur_pool, border="circular"), (7, 7, 1), "3×3 /2 pad 1 circular"),
        (pooled(adaptive_max_pool, 3), (8, 8, 1), "bins"),
        (pooled(global_average_pool), (8, 8, 1), "all"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_geometry_shows_all_that_is_not_the_default(model, shape, geometry):
    (row,) = anatomy(model, shape)
    assert row.geometry == geometry


class Twice(nn.Module):
    """Two poolings of its own, and a third of another kind."""

    @nn.compact
    def __call__(self, x, train: bool):
        return average_pool(max_pool(Conv(2, (3,) * (x.ndim - 2), name="conv")(max_pool(x, 2)), 2), 2)


class Network(nn.Module):
    """Poolings on two levels, two of them in a row."""

    @nn.compact
    def __call__(self, x, train: bool):
        return max_pool(max_pool(Twice(name="twice")(x, train), 3, stride=1, padding=1), 2)


PATHS = ["twice/max_pool_1", "twice/conv", "twice/max_pool_2", "twice/average_pool", "max_pool_1", "max_pool_2"]


def test_each_pooling_has_a_path_of_its_own_and_a_field():
    rows = anatomy(Network(), (32, 1))
    assert [row.path for row in rows] == PATHS
    assert [row.geometry for row in rows] == ["2 /2", "3 pad 1", "2 /2", "2 /2", "3 pad 1", "2 /2"]
    for row in rows:
        (along,) = field_of(Network(), (32, 1), row.path)
        assert (along.size, along.jump, along.low) == (*row.field, *row.jump, *row.start)


def test_a_path_without_its_number_is_refused_and_the_numbered_ones_are_offered():
    with pytest.raises(ValueError, match=r"no layer 'max_pool' \(did you mean max_pool_\d\?\); it has twice/max_pool_1, twice/conv, "):
        field_of(Network(), (32, 1), "max_pool")


def test_files_hold_the_paths_of_the_rows(tmp_path):
    inspect(Network(), (32, 32, 1), tmp_path, name="network", layer="twice/conv")
    record = json.loads((tmp_path / "inspection.json").read_text())
    assert [layer["path"] for layer in record["layers"]] == PATHS
    assert [row["path"] for row in csv.DictReader((tmp_path / "layers.csv").read_text().splitlines())] == PATHS


class Joined(nn.Module):
    """Rows of two branches one after the other; `cut` takes them apart."""

    cut: Callable

    @nn.compact
    def __call__(self, x, train: bool):
        narrow, wide = Conv(2, (1, 1), name="narrow")(x), Conv(2, (9, 9), name="wide")(x)
        return Conv(1, (1, 1), name="last")(jnp.concatenate(self.cut(narrow, wide), 1))


@pytest.mark.parametrize(
    ("cut", "start", "size"),
    [
        (lambda narrow, wide: (narrow[:, :10], wide[:, 10:16]), -4, 9),
        (lambda narrow, wide: (narrow[:, :10], wide[:, :6]), -14, 15),  # its row 0 is row 10 of the result
        (lambda narrow, wide: (wide[:, 10:16], narrow[:, 6:]), 0, 15),
        (lambda narrow, wide: (wide[:, :1], narrow[:, 1:]), -4, 9),
        (lambda narrow, wide: (narrow[:, :2], (2 * narrow)[:, :14]), -2, 3),
        (lambda narrow, wide: (narrow[:, -1:], narrow[:, :15]), -1, 1),  # rolled round: a circular border
        (lambda narrow, wide: (narrow[:, 2:0:-1], narrow, narrow[:, -2:-3:-1]), -2, 1),  # reflected
    ],
)
def test_a_joined_array_sees_what_each_part_sees_unless_it_is_a_border(cut, start, size):
    (along, across) = field_of(Joined(cut), (16, 16, 1), "last")
    assert (along.low, along.size, along.jump) == (start, size, 1)
    assert across.size == (1 if size == 1 or start == -2 else 9)


def test_no_joined_part_sees_more_than_the_field_says():
    model = Joined(lambda narrow, wide: (narrow[:, :10], wide[:, :6]))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)), train=False))
    variables = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
    (along, _) = field_of(model, (16, 16, 1), "last")
    jacobian = jax.jit(jax.jacrev(lambda x: model.apply(variables, x, train=False).sum((0, 2, 3))))(jnp.ones((1, 16, 16, 1)))
    for output, row in enumerate(np.asarray(jacobian).sum((1, 3, 4))):
        assert along.low + output <= min(np.nonzero(row)[0])
        assert max(np.nonzero(row)[0]) <= along.high + output
