"""Convolutions, their arithmetic and their layers refuse what does not fit, by name."""

import jax
import jax.numpy as jnp
import pytest

from cnn_jax.layers import Conv, Dense, Head
from cnn_jax.ops import arithmetic
from cnn_jax.ops.conv import correlate, depthwise_correlate, transposed_correlate
from cnn_jax.ops.padding import explicit_padding

X, W = jnp.zeros((1, 8, 8, 6)), jnp.zeros((3, 3, 6, 8))
MISTAKES = [
    (lambda: correlate(X, jnp.zeros((3, 3, 4, 8))), "6 input channels do not fit"),
    (lambda: correlate(jnp.zeros((8, 6)), jnp.zeros((3, 4, 8))), "1 to 3 spatial axes"),
    (lambda: correlate(X, jnp.zeros((3, 6, 8))), "of rank 4"),
    (lambda: correlate(X, W, stride=-1), "stride=-1 must be whole numbers of at least 1"),
    (lambda: correlate(X, W, stride=(1, 2, 3)), r"stride=\(1, 2, 3\) has 3 number"),
    (lambda: correlate(X, W, stride=1.5), "stride=1.5"),
    (lambda: correlate(X, W, dilation=0), "dilation=0"),
    (lambda: correlate(X, W, dilation=4), "spans 9 positions, but the input has 8"),
    (lambda: correlate(X, W, padding="SMAE"), "did you mean SAME"),
    (lambda: correlate(X, W, padding="CAUSAL"), "one spatial axis"),
    (lambda: correlate(X, W, padding=-1), "padding=-1"),
    (lambda: correlate(X, W, padding=(1, 2, 3)), "3 entries for 2 spatial axes"),
    (lambda: correlate(X, W, padding=9, border="reflect"), "too wide for 8 values: at most 7"),
    (lambda: correlate(X, W, padding=1, border="mirror"), "border='mirror' is unknown"),
    (lambda: correlate(X, W, padding=1, border="reflect", input_dilation=2), "zeros only"),
    (lambda: correlate(X, W, groups=0), "groups=0"),
    (lambda: correlate(X, jnp.zeros((3, 3, 3, 9)), groups=2), "groups must divide c_out"),
    (lambda: correlate(X, W, groups=1.0), "groups=1.0 must be a whole number"),
    (lambda: correlate(X.astype(jnp.uint8), W), "inputs are uint8 and the kernel is float32"),
    (lambda: correlate(X, jnp.zeros((0, 3, 6, 8))), r"window=\(0, 3\) must be whole numbers of at least 1"),
    (lambda: correlate(X, W, padding=1, border=["zeros"]), "is unknown .*: zeros, reflect"),
    (lambda: depthwise_correlate(X, jnp.ones(3)), "of rank 4"),
    (lambda: depthwise_correlate(X, jnp.zeros((3, 3, 5, 1))), "kernels for 5 channels"),
    (lambda: transposed_correlate(X, W, stride=2, output_padding=2), "must be smaller than the stride"),
    (lambda: transposed_correlate(X, W, padding="CAUSAL"), "padding='CAUSAL' is unknown"),
    (lambda: transposed_correlate(jnp.zeros((1, 2, 6)), jnp.zeros((3, 6, 2)), padding=2), "cuts off the whole output"),
    (lambda: explicit_padding((1.5,), (4,), (3,), (1,)), "padding"),
    (lambda: arithmetic.output_sizes((4, 4), (5, 5)), "does not fit"),
    (lambda: arithmetic.num_weights((3, 3), 6, 8, groups=4), "groups=4 must divide c_in=6"),
    (lambda: Conv(8, (3, 3), groups=4).init(jax.random.key(0), X), "groups=4 must divide the 6 input channels"),
    (lambda: Conv(8, (3,)).init(jax.random.key(0), X), "1 spatial axes"),
    (lambda: arithmetic.output_sizes((4, 4), (0, 3)), r"window=\(0, 3\)"),
    (lambda: arithmetic.output_sizes((4, 4), (3,)), "one number for each"),
    (lambda: arithmetic.transposed_output_sizes((1,), (2,), padding=3), "cuts off the whole output"),
    (lambda: arithmetic.transposed_output_sizes((4,), (2,), output_padding=5), "output_padding"),
    (lambda: arithmetic.num_weights((3, 3), -1, 2), "c_in=-1"),
    (lambda: arithmetic.num_neurons((4, 4), (3, 3), -1), "c_out=-1"),
    (lambda: Conv(8, 3).init(jax.random.key(0), X), "window=3 must be"),
    (lambda: Conv(8, (-3, 3)).init(jax.random.key(0), X), r"window=\(-3, 3\)"),
    (lambda: Conv(2.5, (3, 3)).init(jax.random.key(0), X), "features=2.5"),
    (lambda: Dense(0).init(jax.random.key(0), X), "features=0"),
    (lambda: Head(-1).init(jax.random.key(0), X), "features=-1"),
    (lambda: Conv(0, (3, 3)).init(jax.random.key(0), X), "features=0"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
