"""Receptive fields, counts and costs of whole networks against brute force; features by name; the pictures."""

import csv
import json
import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnn_jax.anatomy import anatomy, field_of
from cnn_jax.effective_field import effective_field, effective_size, last_feature_map
from cnn_jax.errors import UserError
from cnn_jax.features import adapt_inputs, apply_with_features, feature_names, replace_head
from cnn_jax.inspection import inspect
from cnn_jax.layers import Conv, ConvTranspose, Head
from cnn_jax.models.lenet import LeNet5
from cnn_jax.models.resnet import resnet8, resnet50
from cnn_jax.ops.padding import PerAxis, per_axis
from cnn_jax.ops.pool import average_pool, blur_pool, global_average_pool, max_pool
from cnn_jax.parallel import count_flops


class Stack(nn.Module):
    """Linear convolutions one after the other; each (window, stride, padding, dilation), one number or one for each axis."""

    geometry: tuple[tuple[PerAxis, PerAxis, PerAxis, PerAxis], ...]
    num_space: int = 2
    num_outputs: int = 0

    @nn.compact
    def __call__(self, x, train: bool):
        for i, (window, stride, padding, dilation) in enumerate(self.geometry):
            windows = per_axis(window, self.num_space, "window")
            x = Conv(3, windows, stride=stride, padding=padding, dilation=dilation, use_bias=False, name=f"conv{i + 1}")(x)
        return x


def initialised(model, shape, seed=0):
    """Variables of the right shapes with random values; compiles nothing."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, *shape)))
    return jax.tree.map(lambda x: jnp.array(rng.uniform(0.01, 0.1, x.shape), x.dtype), shapes)


# Axes -> the longest stack, its largest window, stride, padding and dilation, and a size that holds the largest field and its neighbour.
STACKS = {1: (3, (5, 3, 3, 3), 215), 2: (3, (4, 2, 2, 2), 60), 3: (2, (3, 2, 2, 2), 22)}


@pytest.mark.parametrize("seed", range(18))
def test_fields_equal_the_gradients_of_single_outputs(seed):
    """Weights being positive, the inputs with a gradient are the field: its ends always, all of it where no window leaves gaps."""
    rng, num_space = np.random.default_rng(seed), 1 + seed % 3
    most, largest, size = STACKS[num_space]
    links = [
        tuple(rng.integers(least, n + 1, num_space).tolist() for least, n in zip((1, 1, 0, 1), largest, strict=True)) for _ in range(most)
    ]
    links, shape = links[: rng.integers(1, most + 1)], (size,) * num_space + (1,)
    model = Stack(tuple(links), num_space)
    row = anatomy(model, shape)[-1]
    # The first output that sees no padding. Were the row wrong, it would see some, or something else.
    place = np.array([math.ceil(-start / jump) for start, jump in zip(row.start, row.jump, strict=True)])
    places = place + np.concatenate([np.zeros((1, num_space), int), np.eye(num_space, dtype=int)])  # it, and the next along each axis
    variables, images = initialised(model, shape), jnp.zeros((1, *shape))

    @jax.jit
    def gradients(variables, places):
        _, back = jax.vjp(lambda x: model.apply(variables, x, train=False), images)
        one = jnp.zeros((1, *row.output_shape))
        return jax.vmap(lambda at: back(one.at[(0, *at)].set(1))[0])(tuple(places.T))

    first, *others = ([np.unique(at) for at in np.nonzero(g > 0)[1:-1]] for g in np.asarray(gradients(variables, places)))
    low, high = np.array([(seen.min(), seen.max()) for seen in first]).T
    assert row.field == tuple(high - low + 1)
    assert row.jump == tuple(other[axis].min() - low[axis] for axis, other in enumerate(others))
    assert row.start == tuple(low - place * row.jump)
    for axis, seen in enumerate(first):
        reach, jump, gaps = 1, 1, False
        for window, stride, _, dilation in links:
            gaps |= window[axis] > 1 and dilation[axis] * jump > reach  # the next tap begins beyond what the last one sees
            reach, jump = reach + (window[axis] - 1) * dilation[axis] * jump, jump * stride[axis]
        assert gaps or seen.tolist() == list(range(low[axis], high[axis] + 1))


class Branches(nn.Module):
    """What a real network may do between two layers: parts joined, pooled, shifted, cut, enlarged, gated."""

    num_outputs: int = 4

    @nn.compact
    def __call__(self, x, train: bool):
        one = Conv(3, (5, 5), name="wide")(x)
        two = Conv(3, (1, 1), name="narrow")(x)
        x = jnp.concatenate([one, two, jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]], -1)
        x = max_pool(x, 3, stride=2, padding=1) + average_pool(x, 3, stride=2, padding=1)
        x = jnp.transpose(x[:, :, ::-1][:, :, ::-1], (0, 2, 1, 3)).transpose((0, 2, 1, 3))
        x = ConvTranspose(3, (2, 2), stride=2, padding=0, name="up")(x)
        x = Conv(3, (3, 3), stride=2, name="down")(x)
        gate = nn.sigmoid(Conv(3, (1, 1), name="gate")(x.mean((1, 2), keepdims=True)))
        return Head(self.num_outputs, name="head")(global_average_pool(Conv(3, (1, 1), name="gated")(x * gate)))


def test_fields_follow_branches_pools_and_gates():
    rows = {row.path: row for row in anatomy(Branches(), (16, 16, 3))}
    assert rows["wide"].field == (5, 5)
    assert rows["narrow"].field == (1, 1)
    assert rows["max_pool"].field == (7, 7)  # the hull of the branches, 5, and one more to each side
    assert rows["max_pool"].geometry == "3×3 /2 pad 1"
    assert rows["max_pool"].start == (-3, -3)
    assert rows["up"].jump == (1, 1)
    assert not rows["down"].sees_all
    assert rows["gated"].sees_all  # through the gate; its own field is still known
    assert rows["gated"].field == rows["down"].field
    assert rows["head"].sees_all
    assert rows["head"].field == ()
    assert rows["global_average_pool"].geometry == "all"


@pytest.mark.parametrize("border", ["zeros", "reflect", "replicate", "circular"])
def test_a_border_is_padding_whatever_its_values(border):
    class Bordered(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            return blur_pool(Conv(2, (3, 3), padding=1, border=border, name="conv")(x), border=border)

    conv, blur = anatomy(Bordered(), (12, 12, 1))
    assert (conv.field, conv.jump, conv.start) == ((3, 3), (1, 1), (-1, -1))
    assert (blur.field, blur.jump, blur.start) == ((5, 5), (2, 2), (-2, -2))


@pytest.mark.parametrize(("stride_in", "size"), [("3x3", 427), ("1x1", 483)])
def test_resnet50_has_the_published_receptive_field(stride_in, size):
    rows = anatomy(resnet50(num_outputs=1000, stride_in=stride_in), (224, 224, 3))
    last = [row for row in rows if row.kind == "Conv"][-1]
    assert last.field == (size, size)
    assert last.jump == (32, 32)
    assert sum(row.num_params for row in rows) == 25_557_032
    if stride_in == "3x3":
        assert sum(row.macs for row in rows) == pytest.approx(4.09e9, rel=1e-3)


def test_lenet5_has_the_papers_counts():
    rows = {row.path: row for row in anatomy(LeNet5(num_outputs=10), (32, 32, 1))}
    assert [rows[name].connections for name in ("c1", "c3", "c5", "f6")] == [122_304, 151_600, 48_120, 10_164]
    assert [rows[name].num_params for name in ("c1", "s2", "c3", "s4", "c5", "f6")] == [156, 12, 1_516, 32, 48_120, 10_164]
    assert rows["c5"].field == (32, 32)


def test_fields_behind_numpys_padding_are_plain_numbers():
    c1 = anatomy(LeNet5(num_outputs=10), (28, 28, 1))[0]
    assert json.loads(json.dumps([c1.field, c1.start])) == [[5, 5], [-2, -2]]


@pytest.mark.parametrize("padding", [0, 1])
def test_costs_equal_what_the_compiler_counts(padding):
    """XLA leaves out multiply-adds on padding, as `connections` does; without padding both counts agree with it."""
    model = Stack(((3, 1, padding, 1), (2, 2, padding, 1), (3, 1, padding, 2)))
    rows = anatomy(model, (17, 15, 2))
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 17, 15, 2)))
    counted = count_flops(partial(model.apply, train=False), variables, jnp.zeros((1, 17, 15, 2)))
    assert 2 * sum(row.connections for row in rows) == counted
    assert (sum(row.macs for row in rows) == sum(row.connections for row in rows)) == (padding == 0)


def test_the_costs_of_a_whole_network_agree_with_the_compilers():
    """What XLA counts beyond the multiply-adds is normalisation, activations and pooling: a little, and never less."""
    model, images = resnet8(num_outputs=10), jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    counted = count_flops(partial(model.apply, train=False), variables, images)
    ours = 2 * sum(row.connections for row in anatomy(model, (32, 32, 3)))
    assert ours <= counted <= 1.03 * ours


@pytest.mark.parametrize("links", [((3, 1, 1, 1),) * 3, ((5, 2, 2, 1), (3, 1, 1, 1)), ((3, 1, 0, 1), (3, 1, 0, 2))])
def test_effective_and_theoretical_field_agree_for_linear_stacks(links):
    """The issue's test: exactly the positions of the theoretical field have a gradient."""
    model, shape = Stack(links), (25, 25, 2)
    images = jax.random.normal(jax.random.key(1), (2, *shape))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), images)
    name = last_feature_map(model, shape)
    field = np.asarray(effective_field(model, variables, images, name, jax.random.key(2)))
    (along, _) = field_of(model, shape, name)
    middle = feature_names(model, shape)[name][0] // 2
    low, high = int(along.low + middle * along.jump), int(along.high + middle * along.jump)
    expected = np.zeros((25, 25), bool)
    expected[low : high + 1, low : high + 1] = True
    np.testing.assert_array_equal(field > 0, expected)
    assert effective_size(field, ((low + high) / 2,) * 2) <= along.size


def test_effective_size_is_the_square_that_holds_the_energy():
    field = np.zeros((21, 21))
    field[8:13, 8:13] = 1
    assert effective_size(field, (10, 10)) == 5
    field[10, 10] = 100  # all but nothing lies beside the centre
    assert effective_size(field, (10, 10)) == 1
    assert effective_size(np.zeros((4, 4)), (2, 2)) == 0


def test_features_come_from_the_same_pass():
    model, x = resnet8(num_outputs=5), jnp.array(np.random.default_rng(0).normal(size=(3, 8, 8, 2)), jnp.float32)
    variables = initialised(model, (8, 8, 2))
    names = list(feature_names(model, (8, 8, 2)))
    outputs, features = jax.jit(lambda v, x: apply_with_features(model, v, x, names))(variables, x)
    np.testing.assert_allclose(outputs, jax.jit(partial(model.apply, train=False))(variables, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features["head"], outputs, rtol=1e-6)
    assert {name: f.shape[1:] for name, f in features.items()} == feature_names(model, (8, 8, 2))
    pooled = features["stage3_block1"].mean((1, 2))
    head = variables["params"]["head"]
    np.testing.assert_allclose(pooled @ head["kernel"] + head["bias"][None], outputs, rtol=1e-4, atol=1e-5)
    headless = jax.jit(partial(resnet8(num_outputs=0).apply, train=False))
    np.testing.assert_allclose(headless(variables, x), pooled, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="no layer 'stage3_blok1', but .'stage3_block1'"):
        apply_with_features(model, variables, x, ["stage3_blok1"])


def test_a_head_is_replaced_and_removed_and_nothing_else():
    models = (resnet8(num_outputs=5), resnet8(num_outputs=3), resnet8(num_outputs=0), resnet8(num_outputs=3, width=8))
    old, new, none, wide = (initialised(model, (8, 8, 1), seed) for seed, model in enumerate(models))
    swapped = replace_head(old, new)
    assert jax.tree.map(jnp.shape, swapped) == jax.tree.map(jnp.shape, new)
    np.testing.assert_array_equal(swapped["params"]["stem_conv"]["kernel"], old["params"]["stem_conv"]["kernel"])
    np.testing.assert_array_equal(swapped["params"]["head"]["kernel"], new["params"]["head"]["kernel"])
    assert "head" not in replace_head(old, none)["params"]
    with pytest.raises(ValueError, match="differ beyond their heads"):
        replace_head(old, wide)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 13])
def test_adapted_inputs_answer_grey_as_before(channels):
    rng = np.random.default_rng(0)
    kernel, grey = jnp.array(rng.normal(size=(3, 3, 3, 5))), jnp.array(rng.normal(size=(3, 3, 1, 1)))
    adapted = adapt_inputs(kernel, channels)
    assert adapted.shape == (3, 3, channels, 5)
    np.testing.assert_allclose((adapted * grey).sum((0, 1, 2)), (kernel * grey).sum((0, 1, 2)), rtol=1e-4, atol=1e-5)


def test_inspect_writes_what_it_prints(tmp_path):
    inspect(resnet8(num_outputs=10), (16, 16, 3), tmp_path, name="resnet8")
    rows = list(csv.DictReader((tmp_path / "layers.csv").read_text().splitlines()))
    record = json.loads((tmp_path / "inspection.json").read_text())
    assert [row["path"] for row in rows] == [layer["path"] for layer in record["layers"]]
    assert sum(int(row["num_params"]) for row in rows) == record["totals"]["num_params"] == 78_042
    assert record["receptive_field"]["layer"] == "stage3_block1"
    assert record["receptive_field"]["theoretical"] == [25, 25]
    picture = np.asarray(Image.open(tmp_path / "receptive_field.png").convert("RGB"))
    assert picture.shape[1] >= 1000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_inspect_names_a_layer_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="--layer=stem: the model has no layer 'stem'"):
        inspect(resnet8(num_outputs=10), (16, 16, 3), tmp_path, name="resnet8", layer="stem")
    with pytest.raises(UserError, match="--layer=head has no spatial axes left"):
        inspect(resnet8(num_outputs=10), (16, 16, 3), tmp_path, name="resnet8", layer="head")
