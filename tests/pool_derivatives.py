"""Derivatives of any kind of a loss on what is pooled, where the extension is loaded and where it is not."""

from collections.abc import Callable

import jax
import numpy as np

from cnn_jax.ops import extension


def derivatives_of(losses: Callable) -> dict[str, Callable]:
    """Functions of [3, 2, h, w, c], of the loss of [b, h, w, c]."""

    def stepped(x):
        """In a loop, as many updates a dispatch are."""
        return jax.lax.scan(lambda x, _: (x - 0.1 * jax.grad(losses)(x), losses(x)), x, length=3)

    return {
        "the pooling alone": lambda x: losses(x[0]),
        "vmap": jax.vmap(jax.grad(losses)),
        "vmap of another axis": jax.vmap(jax.grad(losses), 3, 2),
        "gradient of a gradient": jax.vmap(jax.grad(lambda x: (jax.grad(losses)(x) ** 2).sum())),
        "Hessian": lambda x: jax.hessian(losses)(x[0, :, :5, :4]),
        "scan": lambda x: stepped(x[0]),
        "recomputed": jax.grad(lambda x: jax.checkpoint(losses)(x[0])),
    }


def assert_equals_that_without(function: Callable, called: str, monkeypatch, *, atol: float) -> None:
    """With the extension, whose function of that name is called, the same comes out as without."""
    x = np.random.default_rng(0).normal(size=(3, 2, 7, 5, 6)).astype(np.float32)
    ours = jax.jit(lambda x: function(x)).lower(x)
    assert called in ours.as_text()
    ours = ours.compile()(x)
    monkeypatch.setattr(extension, "takes", lambda *arrays: False)
    theirs = jax.jit(lambda x: function(x))(x)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)
