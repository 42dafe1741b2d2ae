"""Correlation and its gradients as operations: their derivatives, vmap, loops, devices; each way of computing them against XLA's own."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax
from jax.test_util import check_grads

from cnn_jax.ops import cpu_conv, native_conv, onednn
from cnn_jax.ops.conv import correlate, transposed_correlate
from cnn_jax.ops.correlation import correlation
from cnn_jax.ops.native_conv import Geometry
from tests.geometries import NAMES, all_three, arrays, assert_alike, geometries


@pytest.mark.usefixtures("float64")
@settings(max_examples=20, deadline=None, derandomize=True)
@given(geometries())
def test_the_formulations_of_a_cpu_equal_xlas(drawn):
    geometry, *sizes = drawn
    x, w, g = arrays(geometry, *sizes)
    both = jax.jit(lambda *a: [all_three(module, geometry, *a) for module in (cpu_conv, native_conv)])
    assert_alike(*both(x, w, g), 1e-12)


@pytest.mark.skipif(not onednn.is_available(), reason="this jaxlib has no oneDNN that is known to work")
@settings(max_examples=12, deadline=None, derandomize=True)
@given(geometries())
def test_the_calls_of_onednn_equal_xlas(drawn):
    geometry, *sizes = drawn
    x, w, g = arrays(geometry, *sizes, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_conv, "_LARGE", 0)
        ours, theirs = jax.jit(lambda *a: [all_three(module, geometry, *a) for module in (cpu_conv, native_conv)])(x, w, g)
    assert_alike(ours, theirs, 1e-5)


CASES = {
    "3×3": Geometry((9, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    "stride": Geometry((9, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    "1×1": Geometry((9, 8), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    "stride beyond the window": Geometry((9, 8), (2, 1), (3, 2), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    "dilated": Geometry((9, 8), (3, 3), (1, 1), ((2, 2), (2, 2)), (1, 1), (2, 2)),
    "grouped": Geometry((9, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1), 2),
    "depthwise": Geometry((9, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1), 4),
    "transposed": Geometry((5, 4), (3, 3), (1, 1), ((1, 2), (2, 1)), (2, 2), (1, 1)),
    "1-D": Geometry((19,), (5,), (1,), ((4, 0),), (1,), (1,)),
    "3-D": Geometry((5, 6, 4), (3, 3, 3), (1, 2, 2), ((1, 1), (1, 1), (1, 1)), (1, 1, 1), (1, 1, 1)),
    "few positions": Geometry((3, 3), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    "some see no inputs": Geometry((1,), (4,), (2,), ((9, 1),), (1,), (3,), 2),
}


@pytest.mark.usefixtures("float64")
def test_windows_that_see_no_inputs():
    geometry = CASES["some see no inputs"]
    both = jax.jit(lambda *a: [all_three(module, geometry, *a) for module in (cpu_conv, native_conv)])
    assert_alike(*both(*arrays(geometry, 2, 4, 6)), 1e-12)


def num_products(geometry, batch, c_in, c_out):
    """Multiply-adds, padding included and inputs' gaps left out: what a program needs, at most."""
    gaps = math.prod(geometry.input_dilation)
    return batch * math.prod(geometry.positions) * math.prod(geometry.window) * c_in // geometry.groups * c_out / gaps


@pytest.mark.parametrize("case", CASES)
def test_no_gradient_costs_more_than_its_products(case):
    """As XLA counts the program: at most 1.1 times two operations a product, and an addition for each value that is put together."""
    geometry = CASES[case]
    batch, c_in, c_out = 2, 8, 12
    if geometry.groups == 4:
        geometry, c_in, c_out = geometry._replace(groups=16), 16, 16
    x, w, g = arrays(geometry, batch, c_in, c_out, np.float32)
    products = 2 * num_products(geometry, batch, c_in, c_out)
    given = {"correlation": (x, w), "input_gradient": (g, w), "kernel_gradient": (x, g)}
    for name in NAMES:
        function = partial(getattr(cpu_conv, name), geometry=geometry)
        flops = jax.jit(function).lower(*given[name]).cost_analysis()["flops"]
        assert flops <= 1.1 * products + 2 * (x.size + g.size + w.size), (name, flops / products)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_both_modes_and_of_second_order(case):
    geometry = CASES[case]
    x, w, _ = arrays(geometry, 2, 4, 4)
    check_grads(jax.jit(lambda x, w: jnp.sin(correlation(x, w, geometry))), (x, w), order=2, modes=("fwd", "rev"), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("which", ["inputs", "kernel", "both"])
@pytest.mark.parametrize("case", ["stride", "grouped", "transposed"])
def test_vmap_is_one_after_the_other(case, which):
    geometry = CASES[case]
    draws = [arrays(geometry, 2, 4, 6 if geometry.groups == 1 else 4) for _ in range(3)]
    xs, ws = (np.stack([d[i] * (k + 1) for k, d in enumerate(draws)], axis=1) for i in (0, 1))
    axes = {"inputs": (1, None), "kernel": (None, 1), "both": (1, 1)}[which]
    x, w = xs if axes[0] else xs[:, 0], ws if axes[1] else ws[:, 0]

    def value_and_slopes(x, w):
        y, pull = jax.vjp(lambda x, w: correlation(x, w, geometry), x, w)
        return y, *pull(jnp.cos(y))

    together = jax.jit(jax.vmap(value_and_slopes, in_axes=axes))(x, w)
    for k in range(3):
        alone = jax.jit(value_and_slopes)(x[:, k] if axes[0] else x, w[:, k] if axes[1] else w)
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-9, atol=1e-9)


def test_a_loop_computes_as_the_outside_does():
    """A convolution of XLA's in a loop is laid out for no fast kernel: gradients there are to be our own, without one that is not."""
    geometry = CASES["3×3"]
    x, w, g = arrays(geometry, 3, 4, 6, np.float32)

    def gradients(x, g):
        return jax.vjp(lambda w: correlation(x, w, geometry), jnp.asarray(w))[1](g)[0]

    looped = jax.jit(lambda xs, gs: lax.scan(lambda total, xg: (total + gradients(*xg), None), jnp.zeros(w.shape), (xs, gs))[0])
    program = looped.lower(np.stack([x, 2 * x]), np.stack([g, g])).compile()
    np.testing.assert_allclose(program(np.stack([x, 2 * x]), np.stack([g, g])), 3 * jax.jit(gradients)(x, g), rtol=1e-4, atol=1e-4)
    layouts = {line.split("dim_labels=")[1].split(",")[0] for line in program.as_text().splitlines() if "dim_labels=" in line}
    assert layouts <= {"b01f_01io->b01f"}  # the one that XLA's CPU kernels take


def test_one_program_is_lowered_natively_for_other_devices():
    def f(x, w):
        return (correlate(x, w, padding=1) ** 2).sum()

    shapes = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32), jax.ShapeDtypeStruct((3, 3, 4, 4), jnp.float32)
    text = jax.jit(jax.grad(f, (0, 1))).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("stablehlo.convolution") == 3  # y, and the gradients of x and w
    assert "dot_general" not in text


@pytest.mark.parametrize("groups", [1, 3])
def test_a_window_of_many_taps_is_not_taken_apart(groups):
    geometry = Geometry((14, 13), (13, 12), (1, 1), ((1, 0), (0, 0)), (1, 1), (1, 1), groups)
    given = arrays(geometry, 2, 3, 3, np.float32)
    both = jax.jit(lambda *a: [all_three(module, geometry, *a) for module in (cpu_conv, native_conv)])
    assert len(both.lower(*given).as_text().splitlines()) < 200
    assert_alike(*both(*given), 1e-5)


@pytest.mark.parametrize("argument", ["inputs", "kernel"])
def test_empty_gradients(argument):
    x, w = np.zeros((0, 5, 4), np.float32), np.ones((3, 4, 2), np.float32)
    gradient = jax.jit(jax.grad(lambda x, w: correlate(x, w).sum(), 0 if argument == "inputs" else 1))(x, w)
    assert gradient.shape == {"inputs": x, "kernel": w}[argument].shape
    assert not np.asarray(gradient).any()


def test_a_transposed_convolution_that_leaves_gaps():
    """Stride beyond the window: positions that no input reaches are zero."""
    y = jax.jit(partial(transposed_correlate, stride=3))(jnp.ones((1, 3, 1)), jnp.full((1, 1, 1), 2.0))
    assert y[0, :, 0].tolist() == [2.0, 0, 0, 2.0, 0, 0, 2.0]
