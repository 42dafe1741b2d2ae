"""Any augmentation as one compiled program: eagerly each of its steps is compiled for itself, which takes several times as long."""

from functools import cache, partial

import jax

from cnn_jax.ops import augment


@cache
def compiled(name, **chosen):
    """`augment.<name>` with these options, as a function of (key, images); compiled once for all tests that ask for it."""
    return jax.jit(partial(getattr(augment, name), **chosen))
