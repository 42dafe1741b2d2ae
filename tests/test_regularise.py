"""Dropout and its relatives: what is dropped together, how often, and the same on any number of devices."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cnn_jax.layers import DropBlock, Dropout, GaussianNoise, SpatialDropout, StochasticDepth
from cnn_jax.ops.dropout import drop_block, dropout, gaussian_noise, spatial_dropout, stochastic_depth

SHAPES = [(8, 6), (8, 5, 4), (8, 4, 3, 5), (8, 2, 2, 3, 2)]
# What of an index (example, *position, channel) is dropped together.
TOGETHER = {dropout: lambda p: p, spatial_dropout: lambda p: (p[0], p[-1]), stochastic_depth: lambda p: p[0]}
OPS = [*TOGETHER, functools.partial(drop_block, size=2), gaussian_noise]


def ids(op):
    return getattr(op, "func", op).__name__


@pytest.mark.parametrize("op", TOGETHER, ids=ids)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(shape=st.sampled_from(SHAPES), rate=st.sampled_from([0.1, 0.5, 0.8]), seed=st.integers(0, 99))
def test_what_is_dropped_together_is_dropped_or_scaled_as_one(op, shape, rate, seed):
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    y, pullback = jax.vjp(jax.jit(lambda x: op(jax.random.key(seed), x, rate=rate)), jnp.array(x))
    kept, fates = np.asarray(y) != 0, {}
    for place in np.ndindex(shape):
        fates.setdefault(TOGETHER[op](place), set()).add(bool(kept[place]))
    assert all(len(fate) == 1 for fate in fates.values())
    np.testing.assert_allclose(np.asarray(y)[kept], x[kept] / (1 - rate), rtol=1e-6)
    np.testing.assert_allclose(pullback(jnp.array(x))[0], np.where(kept, x / (1 - rate), 0), rtol=1e-6)  # linear, given the key
    share = np.mean([True in fate for fate in fates.values()])
    assert abs(share - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / len(fates))


@pytest.mark.parametrize("op", OPS, ids=ids)
def test_the_expectation_is_the_input(op):
    """Over 2,000 keys; and no two examples or keys share their dice."""
    x = jnp.array(np.random.default_rng(1).normal(size=(2, 3, 3, 2)) + 2, jnp.float32)
    ys = np.asarray(jax.jit(jax.vmap(lambda key: op(key, x)))(jax.random.split(jax.random.key(2), 2000)))
    spread = ys.std(0) / math.sqrt(2000)
    if ids(op) == "drop_block":  # its scale makes the gain of an example 1 on average over its values, not each value's
        assert abs((ys / np.asarray(x)).mean((2, 3, 4)) - 1)[(ys != 0).any((2, 3, 4))].max() < 1e-5
    else:
        assert (np.abs(ys.mean(0) - np.asarray(x)) < 5 * spread).all()
    gains = (ys / np.asarray(x)).reshape(2000, 2, -1)
    for a, b in ((gains[:, 0, 0], gains[:, 1, 0]), (gains[:-1, 0, 0], gains[1:, 0, 0])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(2000)


@pytest.mark.parametrize(("space", "size"), [((6,), 3), ((5, 4), 3), ((4, 3), 1), ((3, 6), 5), ((3, 4, 3), 2)])
def test_blocks_are_whole_inside_and_as_frequent_as_the_formula_says(space, size):
    rate, num = 0.3, 3000
    y = np.asarray(drop_block(jax.random.key(3), jnp.ones((num, *space, 2)), rate=rate, size=size))
    block = [min(size, n) for n in space]
    starts = [n - k + 1 for n, k in zip(space, block, strict=True)]
    gamma = rate * np.prod(space) / (np.prod(block) * np.prod(starts))
    covering = np.zeros((*space, num, 2), int)  # the blocks of zeros that a place lies in
    could = np.zeros(space, int)
    dropped = np.moveaxis(y == 0, 0, -2)
    for start in np.ndindex(*starts):
        inside = tuple(slice(s, s + k) for s, k in zip(start, block, strict=True))
        covering[inside] += dropped[inside].all(axis=tuple(range(len(space))))
        could[inside] += 1
    assert (covering[dropped] > 0).all()
    expected = 1 - (1 - gamma) ** could
    np.testing.assert_allclose(dropped.mean((-1, -2)), expected, atol=5 * 0.5 / math.sqrt(2 * num))
    if size > 1:
        assert could.max() > could.min() or min(space) <= size
    for example in y[:200]:
        left = (example != 0).sum()
        assert not left or np.allclose(example[example != 0], example.size / left, rtol=1e-6)
    assert (dropped[..., 0] != dropped[..., 1]).any()


def test_drop_block_of_size_one_is_dropout_and_needs_space():
    y = np.asarray(drop_block(jax.random.key(4), jnp.ones((500, 20, 3)), rate=0.3, size=1))
    assert abs((y == 0).mean() - 0.3) < 0.02
    with pytest.raises(ValueError, match=r"a spatial axis, got shape \(2, 3\)"):
        drop_block(jax.random.key(0), jnp.ones((2, 3)))


def test_noise_is_normal_and_of_the_deviation():
    x = jnp.array(np.random.default_rng(5).normal(size=(8, 40, 30, 5)), jnp.float32)
    y, pullback = jax.vjp(lambda x: gaussian_noise(jax.random.key(6), x, deviation=0.7), x)
    noise = np.asarray(y - x).ravel() / 0.7
    assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
    assert abs(noise.std() - 1) < 5 / math.sqrt(2 * noise.size)
    assert abs((noise**4).mean() - 3) < 5 * math.sqrt(96 / noise.size)
    np.testing.assert_array_equal(pullback(x)[0], x)


def test_the_draw_is_the_same_on_any_number_of_devices():
    key, x = jax.random.key(7), jnp.array(np.random.default_rng(8).normal(size=(8, 4, 3, 5)), jnp.float32)

    def draws(x, axis_name=None):
        # The other two are `dropout` with another shape of mask; the layers' test has them all.
        return {ids(op): op(key, x, axis_name=axis_name) for op in (dropout, OPS[3], gaussian_noise)}

    whole = draws(x)
    mapped = jax.pmap(functools.partial(draws, axis_name="data"), "data")(x.reshape(4, 2, 4, 3, 5))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.jit(draws)(jax.device_put(x, NamedSharding(mesh, P("data"))))
    for name, y in whole.items():
        assert (y != x).any()
        np.testing.assert_allclose(mapped[name].reshape(x.shape), y, rtol=1e-6, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(sharded[name], y, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("op", OPS, ids=ids)
def test_the_draw_of_an_example_does_not_depend_on_the_others(op):
    key, x = jax.random.key(7), jnp.array(np.random.default_rng(8).normal(size=(8, 4, 3, 5)), jnp.float32)
    draw = jax.jit(functools.partial(op, key))
    np.testing.assert_array_equal(draw(x.at[4:].set(9.0))[:4], draw(x)[:4])


@pytest.mark.parametrize("op", OPS, ids=ids)
def test_bfloat16_is_rounded_once(op):
    x = jnp.array(np.random.default_rng(9).normal(size=(8, 4, 3, 5)), jnp.bfloat16)
    op = jax.jit(functools.partial(op, jax.random.key(10)))
    y = op(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, op(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_rates_of_zero_and_one_need_no_dice_and_others_are_refused():
    x, key = jnp.full((4, 3, 2), -1e4), jax.random.key(0)
    for op in TOGETHER:
        np.testing.assert_array_equal(op(key, x, rate=0.0), x)
        y, pullback = jax.vjp(lambda x, op=op: op(key, x, rate=1.0), x)
        assert not np.asarray(y).any()
        assert not np.asarray(pullback(x)[0]).any()
        for rate in (-0.1, 1.5, math.nan):
            with pytest.raises(ValueError, match=rf"rate={rate} must be in \[0, 1\]"):
                op(key, x, rate=rate)
    np.testing.assert_array_equal(drop_block(key, x, rate=0.0), x)
    assert not np.asarray(drop_block(key, x, rate=1.0, size=3)).any()  # one block covers all
    with pytest.raises(ValueError, match="size=0 must be at least 1"):
        drop_block(key, x, size=0)
    for deviation in (-1.0, math.inf):
        with pytest.raises(ValueError, match=f"deviation={deviation} must be finite"):
            gaussian_noise(key, x, deviation=deviation)


LAYERS = {Dropout: 1.5, SpatialDropout: 1.5, DropBlock: 1.5, StochasticDepth: 1.5, GaussianNoise: -1.0}  # and a bad value


@pytest.mark.parametrize("module", LAYERS)
def test_layer_is_random_in_training_only(module):
    x = jnp.array(np.random.default_rng(11).normal(size=(8, 4, 3, 5)), jnp.float32)
    options = {"size": 2} if module is DropBlock else {}
    layer = module(axis_name="data", **options)
    assert layer.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, train=True) == {}  # outside the axis
    assert layer.apply({}, x, train=False) is x
    assert module(0.0).apply({}, x, train=True) is x  # no key is asked for
    key = jax.random.key(2)
    whole = module(**options).apply({}, x, train=True, rngs={"dropout": key})
    assert (whole != x).any()
    np.testing.assert_array_equal(module(**options).apply({}, x, train=True, rngs={"dropout": key}), whole)
    assert (module(**options).apply({}, x, train=True, rngs={"dropout": jax.random.key(3)}) != whole).any()
    halves = x.reshape(2, 4, 4, 3, 5)  # vmap has axis names too: as on two devices
    mapped = jax.vmap(lambda part: layer.apply({}, part, train=True, rngs={"dropout": key}), axis_name="data")(halves)
    np.testing.assert_allclose(mapped.reshape(x.shape), whole, rtol=1e-6, atol=1e-6)
    for train in (False, True):
        with pytest.raises(ValueError, match=rf"={LAYERS[module]} must be"):
            module(LAYERS[module]).apply({}, x, train=train)


def test_layer_options_reach_the_function():
    x, rngs = jnp.ones((8, 4, 3, 5)), {"dropout": jax.random.key(4)}
    for module in (Dropout, SpatialDropout, StochasticDepth):
        np.testing.assert_allclose(module(rate=0.2).apply({}, x, train=True, rngs=rngs).max(), 1.25, rtol=1e-6)
    y = DropBlock(rate=0.5, size=4).apply({}, x, train=True, rngs=rngs)
    assert ((y == 0).all((1, 2)) | (y != 0).all((1, 2))).all()
    noise = [GaussianNoise(deviation).apply({}, x, train=True, rngs=rngs) - x for deviation in (1.0, 3.0)]
    np.testing.assert_allclose(noise[1], 3 * noise[0], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_])
@pytest.mark.parametrize("op", [dropout, spatial_dropout, stochastic_depth, functools.partial(drop_block, size=2), gaussian_noise])
def test_whole_numbers_become_float32(op, dtype):
    x = np.random.default_rng(15).integers(0, 2 if dtype == jnp.bool_ else 100, size=(3, 4, 5))
    for options in [{}, {"deviation": 0.0}] if op is gaussian_noise else [{"rate": 0.3}, {"rate": 0}]:
        value, expected = (op(jax.random.key(2), jnp.array(x, t), **options) for t in (dtype, jnp.float32))
        assert value.dtype == jnp.float32
        np.testing.assert_array_equal(value, expected)
    assert Dropout().apply({}, jnp.array(x, dtype), False).dtype == jnp.float32


@pytest.mark.usefixtures("unchecked")
def test_inputs_without_the_axes_are_refused():
    key = jax.random.key(0)
    for op, shape, allowed in [
        (spatial_dropout, (3,), r"\[b, \*space, c\]"), (drop_block, (3,), r"\[b, \*space, c\] with a spatial axis"),
        (dropout, (), r"\[b, \.\.\.\]"), (stochastic_depth, (), r"\[b, \.\.\.\]"), (gaussian_noise, (), r"\[b, \.\.\.\]"),
    ]:  # fmt: skip
        for rate in ({},) if op is gaussian_noise else ({"rate": 0.5}, {"rate": 0.0}):
            with pytest.raises(ValueError, match=f"inputs must be {allowed}, got shape " + re.escape(str(shape))):
                op(key, jnp.ones(shape), **rate)
    for op in (dropout, stochastic_depth):
        assert op(key, jnp.ones(3)).shape == (3,)
    for size in (2.5, 2.0, True, "3"):
        with pytest.raises(ValueError, match=f"size={size!r} must be at least 1, a whole number"):
            drop_block(key, jnp.ones((1, 4, 1)), size=size)
