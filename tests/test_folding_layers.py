"""Which layers take up the norm behind them, and which of the norms behind a layer stay."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import pytest

from cnn_jax.layers import BatchNorm, Conv, ConvTranspose, Dense, GroupNorm, Head, SeparableConv, StandardisedConv
from tests.folded_models import fold_and_compare, norms
from tests.traced_models import images


class Layers(nn.Module):
    """A layer, or a row of them, and a norm."""

    layers: tuple[nn.Module, ...]
    norm: nn.Module

    def __call__(self, x, train: bool):
        for layer in self.layers:
            x = layer(x)
        return nn.tanh(self.norm(x, not train) if isinstance(self.norm, nn.BatchNorm) else self.norm(x, train=train))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv(6, (3,), padding="CAUSAL", dilation=2, groups=2), (7, 4)),
        (Conv(6, (3, 2), stride=(2, 1), border="reflect", use_bias=False), (7, 6, 4)),
        (Conv(8, (3, 3), groups=4, use_bias=False), (7, 6, 4)),
        (Conv(6, (2, 1, 3), input_dilation=2), (3, 4, 5, 4)),
        (ConvTranspose(6, (3,), stride=2, groups=2), (7, 4)),
        (ConvTranspose(6, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 0), use_bias=False), (7, 6, 4)),
        (ConvTranspose(6, (2, 1, 3), groups=2, use_bias=False), (3, 4, 5, 4)),
        (SeparableConv(6, (3, 3), use_bias=False), (7, 6, 4)),
        (Dense(6), (4,)),
        (Dense(6), (7, 4)),
        (Head(6), (4,)),
    ],
    ids=lambda p: type(p).__name__ if isinstance(p, nn.Module) else str(len(p) - 1),
)
def test_linear_layers_of_every_kind_take_up_the_norm(layer, shape):
    norm = BatchNorm(epsilon=0.3)  # large enough to show
    folded, fewer = fold_and_compare(Layers((layer,), norm), shape, images(3, *shape))
    assert len(folded.pairs) == 1
    assert norms(fewer) == []


class SquaredConv(Conv):
    """A convolution by the squares of its weights."""

    def prepare(self, kernel):
        return jnp.square(kernel)


BEHIND = {
    "weights standardised": (StandardisedConv(6, (3,)),),
    "weights squared": (SquaredConv(6, (3,)),),
    "another library's": (nn.Conv(6, (3,)),),
    "another norm": (Conv(6, (3,)), GroupNorm(3)),
    "an activation": (Conv(6, (3,)), nn.relu),
    "another type": (Dense(6, dtype=jnp.bfloat16), Head(0)),
    "nothing": (),
}


@pytest.mark.parametrize("what", BEHIND)
def test_behind_anything_else_a_norm_stays(what):
    folded, fewer = fold_and_compare(Layers(BEHIND[what], BatchNorm()), (7, 4), images(3, 7, 4))
    assert (folded.pairs, norms(fewer)) == ((), ["norm"])


class Shifted(BatchNorm):
    """A norm that adds one."""

    def __call__(self, x, train: bool):
        return super().__call__(x, train) + 1


@pytest.mark.parametrize("norm", [nn.BatchNorm(), Shifted()])
def test_other_norms_are_left_alone(norm):
    model = Layers((Conv(6, (3,)),), norm)
    folded, fewer = fold_and_compare(model, (7, 4), images(3, 7, 4))
    assert (folded.pairs, len(norms(fewer))) == ((), 1)


class Unit(nn.Module):
    """A convolution and its norm, of whose first the output may be kept; `peek` reads a parameter of one of them once more."""

    kept: bool = False
    peek: tuple[str, str] | None = None

    @nn.compact
    def __call__(self, x, train: bool = False):
        y = Conv(4, (3,), use_bias=False, name="conv")(x)
        if self.kept:
            self.sow("intermediates", "before", y)
        y = BatchNorm(name="bn")(y, train)
        return y + self.variables["params"][self.peek[0]][self.peek[1]].mean() if self.peek else y


class Stack(nn.Module):
    """`Unit` for `nn.scan`."""

    @nn.compact
    def __call__(self, x, _):
        return Unit(name="unit")(x), None


class Inner(nn.Module):
    """A norm of what is made elsewhere."""

    made: Any

    @nn.compact
    def __call__(self, x, train: bool):
        return BatchNorm(name="bn")(x, train) + self.made()


class Corners(nn.Module):
    """Where a norm follows a convolution, and may be folded or not."""

    @nn.compact
    def __call__(self, x, train: bool):
        def conv(name):
            return Conv(4, (3,), name=name)

        def norm(name):
            return BatchNorm(name=name)

        x = BatchNorm(frozen=True, name="frozen_bn")(conv("frozen")(x), True)
        x = nn.relu(norm("chain_bn2")(norm("chain_bn1")(conv("chain")(x), train), train))
        again, again_bn = conv("again"), norm("again_bn")  # the same norm after the same convolution each time
        x = x + again_bn(again(again_bn(x=again(x), train=train)), train)

        y = conv("summed")(x)
        x = y + norm("summed_bn")(y, train)
        y = conv("forked")(x)
        x = norm("forked_bn1")(y, train) * norm("forked_bn2")(y, train)
        shared = norm("shared_bn")
        x = shared(conv("shared1")(x), train) - shared(conv("shared2")(x), train)
        bare = conv("bare")  # normalised only once
        x = norm("bare_bn")(bare(bare(x)), train)
        other = norm("other_bn")  # of a sum, too
        x = other(x + other(conv("other")(x), train), train)

        x = x + Unit(kept=True, name="kept")(x, train)
        x = x + Unit(peek=("conv", "kernel"), name="peeked1")(x, train)
        x = x + Unit(peek=("bn", "scale"), name="peeked2")(x, train)
        x = x + nn.remat(Unit)(name="recomputed")(x)
        x = x + nn.jit(Unit)(name="compiled")(x)
        x, _ = nn.scan(Stack, {"params": 0, "batch_stats": 0}, split_rngs={"params": True}, length=3)(name="scanned")(x, None)
        mapped = nn.vmap(Unit, variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True}, in_axes=(1,), out_axes=1)
        x = x + mapped(name="mapped")(jnp.stack([x, 2 * x], 1)).mean(1)
        y = conv("outside")(x)
        x = nn.remat(Inner, static_argnums=(2,))(lambda: y * 2, name="inside")(x, train)
        x = norm("pooled_bn")(nn.avg_pool(conv("pooled")(x), (2,)), train)
        return nn.tanh(norm("last_bn")(Dense(3, name="last")(x.mean(1)), train))


def test_a_norm_is_folded_where_it_alone_reads_a_layer_each_time():
    model, shape = Corners(), (7, 4)
    folded, fewer = fold_and_compare(model, shape, images(3, *shape))
    assert folded.pairs == (("frozen", "frozen_bn"), ("chain", "chain_bn1"), ("again", "again_bn"), ("last", "last_bn"))
    assert {path.split("/")[0] for path in norms(fewer)} == {
        "chain_bn2", "summed_bn", "forked_bn1", "forked_bn2", "shared_bn", "bare_bn", "other_bn", "kept", "peeked1", "peeked2",
        "recomputed", "compiled", "scanned", "mapped", "inside", "pooled_bn",
    }  # fmt: skip


class Reads(nn.Module):
    """Norms of a layer that is made outside of what recomputes them, and read there twice."""

    @nn.compact
    def __call__(self, x, train: bool):
        y = Conv(4, (3,), name="conv")(x)

        def norm_and_sum(module, x):
            return module(y, train) + y * x

        return nn.remat(norm_and_sum)(BatchNorm(name="bn"), x)


def test_a_reader_within_a_closure_is_seen():
    folded, _ = fold_and_compare(Reads(), (7, 4), images(3, 7, 4))
    assert folded.pairs == ()
