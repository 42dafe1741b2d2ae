"""Compares a loss with a slow oracle of one example: values, gradients, masks with garbage behind them, jit, float32, bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np


def numeric_gradient(f, x, step=1e-6):
    """Central differences of a function of one float64 array."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = (f(up) - f(down)) / (2 * step)
    return gradient


def assert_equals_oracle(loss_fn, oracle, arrays, *, seed, num_outputs=1, rtol=1e-8, **options):
    """`oracle(*rows, **options)` is the value of one example; gradients are taken by the first `num_outputs` arrays. Needs float64."""
    rng = np.random.default_rng(seed)
    b = len(arrays[0])
    where = rng.random(b) < 0.7
    factors = rng.normal(size=b)
    arguments = [jnp.array(with_garbage(x, where)) for x in arrays]

    def weighted(*outputs):
        values = loss_fn(*outputs, *arguments[num_outputs:], where=jnp.array(where), **options)
        return (values * factors).sum(), values

    differentiated = jax.jit(jax.value_and_grad(weighted, argnums=tuple(range(num_outputs)), has_aux=True))
    (_, values), gradients = differentiated(*arguments[:num_outputs])
    expected = [oracle(*rows, **options) if counts else 0.0 for counts, *rows in zip(where, *arrays, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=rtol, atol=1e-12)
    for n, gradient in enumerate(gradients):
        for i in range(b):
            rows = [x[i] for x in arrays]

            def of_row(row, rows=rows, n=n):
                return oracle(*rows[:n], row, *rows[n + 1 :], **options)

            wanted = factors[i] * numeric_gradient(of_row, np.asarray(rows[n])) if where[i] else np.zeros_like(rows[n])
            np.testing.assert_allclose(gradient[i], wanted, rtol=1e-5, atol=1e-7)
    unmasked = loss_fn(*map(jnp.array, arrays), **options)
    np.testing.assert_allclose(unmasked, [oracle(*rows, **options) for rows in zip(*arrays, strict=True)], rtol=rtol, atol=1e-12)


def with_garbage(x, where):
    """x with NaN, infinity or impossible numbers in the rows that do not count."""
    x = np.array(x)
    for i in np.flatnonzero(~where):
        x[i] = True if x.dtype == bool else [np.nan, np.inf][i % 2] if x.dtype.kind == "f" else -7
    return x


def assert_survives(loss_fn, arrays, *, num_outputs=1, **options):
    """Under jit as without it; in float32 to 1e-5 and in bfloat16 to 2e-2, of the type given; 0, with gradient 0, where nothing counts."""
    outputs, rest = arrays[:num_outputs], [jnp.array(x) for x in arrays[num_outputs:]]
    none = jnp.zeros(len(arrays[0]), bool)
    expected = np.asarray(loss_fn(*map(jnp.array, outputs), *rest, **options))
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)):
        given = [jnp.array(x, dtype) for x in outputs]
        targets = [x.astype(jnp.float32) if x.dtype == jnp.float64 else x for x in rest]
        compiled = jax.jit(lambda *a, targets=targets: loss_fn(*a, *targets, **options))(*given)
        assert compiled.dtype == dtype
        np.testing.assert_allclose(compiled.astype(jnp.float64), expected, rtol=tolerance, atol=tolerance * max(1, np.abs(expected).max()))
    value, gradients = jax.jit(jax.value_and_grad(
        lambda *a: loss_fn(*a, *rest, where=none, **options).sum(), argnums=tuple(range(num_outputs))
    ))(*(jnp.full(np.shape(x), jnp.nan) for x in outputs))
    assert value == 0
    assert all((g == 0).all() for g in gradients)
