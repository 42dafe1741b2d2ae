"""How windows walk: where the last one is, what is refused. Against a walk on foot, and as torch has it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops.pool import average_pool, l2_pool, lp_pool, max_pool, probability_weighted_pool, stochastic_pool
from tests.walked_windows import starts

draw = functools.partial(stochastic_pool, jax.random.key(0))


def test_torchs_ceil_mode():
    """Sizes and means as torch 2.13 gives them: the last window is cut off, counted to the padding's end, and left out beyond the input."""
    for size, options, means in [
        (5, {"window": 2}, [1.0, 1.0, 1.0]),
        (5, {"window": 3, "stride": 2, "padding": 1}, [2 / 3, 1, 2 / 3]),
        (6, {"window": 3, "stride": 2, "padding": 1}, [2 / 3, 1, 1, 0.5]),
    ]:
        ours = jax.jit(functools.partial(average_pool, ceil_mode=True, **options))
        np.testing.assert_allclose(ours(jnp.ones((1, size, 1)))[0, :, 0], means, rtol=1e-6)
    for space, options, places in [
        ((3,), {"window": 2, "stride": 3, "padding": 1}, (2,)),
        ((4,), {"window": 1, "stride": 3}, (2,)),
        ((5,), {"window": 1, "stride": 3}, (2,)),
        ((112, 112), {"window": 3, "stride": 2}, (56, 56)),
    ]:
        ours = functools.partial(max_pool, ceil_mode=True, **options)
        assert jax.eval_shape(ours, jnp.ones((1, *space, 1))).shape == (1, *places, 1)


def test_padding_by_word():
    x = jnp.arange(1.0, 6.0).reshape(1, 5, 1)
    assert max_pool(x, 3, stride=2, padding="SAME")[0, :, 0].tolist() == [2.0, 4.0, 5.0]
    assert max_pool(x, 3, stride=1, padding="CAUSAL")[0, :, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert average_pool(x, 3, stride=1, padding="CAUSAL", count_include_pad=False)[0, :, 0].tolist() == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert max_pool(x, 2, padding="VALID")[0, :, 0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize("function", [max_pool, average_pool, lp_pool, l2_pool, probability_weighted_pool, draw])
def test_what_does_not_fit_is_named(function):
    x = jnp.zeros((1, 5, 4, 2))
    for inputs, options, message in [
        (jnp.zeros((5, 2)), {"window": 2}, r"1 to 3 spatial axes, none of them empty, got shape \(5, 2\)"),
        (jnp.zeros((1, 2, 2, 2, 2, 2)), {"window": 2}, "1 to 3 spatial axes"),
        (jnp.zeros((1, 0, 2)), {"window": 1}, "none of them empty"),
        (x, {"window": 0}, "window=0 must be whole numbers of at least 1"),
        (x, {"window": (2, 2, 2)}, "window=.* has 3 number.s. for 2 spatial axes"),
        (x, {"window": 2, "stride": 0}, "stride=0 must be whole numbers"),
        (x, {"window": 6}, r"window=\(6, 6\) that spans \(6, 6\) does not fit into the space \(5, 4\) with padding=0"),
        (x, {"window": 3, "padding": 2}, r"padding=2 must be at most half the window's span \(3, 3\)"),
        (x, {"window": 2, "padding": ((0, 2), (0, 0))}, "at most half"),
        (x, {"window": 2, "padding": -1}, "padding=-1 must be whole numbers of at least 0"),
        (x, {"window": 2, "padding": "SAMY"}, "did you mean SAME"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(inputs, **options)


def test_a_window_that_would_see_padding_only_is_refused():
    """Such a maximum would be −∞. Dilation's taps can step over a small input."""
    for size, options in [(1, {"padding": 2}), (1, {"padding": "SAME"}), (2, {"padding": "SAME"}), (1, {"padding": ((2, 1),)})]:
        message = rf"window=\(2,\) with dilation=\(3,\).*nothing but padding=.*sizes \({size},\)"
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(functools.partial(max_pool, window=2, dilation=3, stride=1, **options), jnp.full((1, size, 1), -5.0))


def test_a_window_is_refused_only_if_it_sees_nothing():
    """All small cases on one axis, against a walk over the taps."""
    refused = 0
    for n, k, d, s, padding, ceil in itertools.product(range(1, 5), (1, 2, 3), (1, 2, 3), (1, 2), (0, 1, 2, 3, "SAME"), (False, True)):
        span = (k - 1) * d + 1
        if padding != "SAME" and (padding > span // 2 or n + 2 * padding < span):
            continue
        needed = max((-(-n // s) - 1) * s + span - n, 0)
        pad = (needed // 2, needed - needed // 2) if padding == "SAME" else (padding, padding)
        seen = [any(0 <= at + t * d < n for t in range(k)) for at in starts(n, span, s, pad, ceil)]
        function = functools.partial(max_pool, window=k, dilation=d, stride=s, padding=padding, ceil_mode=ceil)
        if all(seen):
            assert jax.eval_shape(function, jnp.zeros((1, n, 1))).shape == (1, len(seen), 1)
        else:
            refused += 1
            with pytest.raises(ValueError, match="would see nothing but padding"):
                jax.eval_shape(function, jnp.zeros((1, n, 1)))
    assert refused > 10
