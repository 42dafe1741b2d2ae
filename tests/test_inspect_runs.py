"""`--mode=inspect` on whatever there is to inspect: every registered experiment, pairs, one and three axes, auxiliary heads."""

import dataclasses
import io
import json
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_jax.anatomy import anatomy
from cnn_jax.build import build
from cnn_jax.description import description, training_only
from cnn_jax.experiment import Spec
from cnn_jax.inspection import inspect, one_image, survey
from cnn_jax.layers import Conv, Head
from cnn_jax.models.resnet import resnet50
from cnn_jax.registry import MODELS
from experiments import EXPERIMENTS

_SMALL = 2_000_000  # parameters; what is larger takes too long to initialise and differentiate here
_INSPECTED: set[str] = set()  # several experiments train one network; it is inspected once


def printed(group) -> str:
    """All the text of what inspect returns, but its table."""
    return "\n".join(part.plain for part in group.renderables if hasattr(part, "plain"))


def shapes_of(model, shape):
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, *shape)))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_inspected(name, tmp_path):
    built = build(EXPERIMENTS[name])
    model, shape, _ = one_image(built.model, built.dataset.input_shape)
    if repr((model, shape)) in _INSPECTED:
        return
    _INSPECTED.add(repr((model, shape)))
    found = survey(model, shape)
    assert found.totals["num_params"] <= EXPERIMENTS[name].about.num_params  # which counts the loss' own
    assert len(found.along) == (0 if name == "digits_lenet5" else 2)  # LeNet-5 first resizes the digits to 32×32
    if found.totals["num_params"] < _SMALL:
        shown = printed(inspect(built.model, built.dataset.input_shape, tmp_path, name=name))
        assert (tmp_path / "receptive_field.png").exists() == ("no receptive field is drawn" not in shown) == (len(found.along) == 2)


def test_a_network_on_pairs_is_inspected_on_each_image(tmp_path):
    built = build(EXPERIMENTS["digits_pairs_resnet_contrastive"])
    assert built.dataset.input_shape == (8, 8, 2)
    heading = printed(inspect(built.model, (8, 8, 2), tmp_path, name="pairs")).splitlines()[0]
    assert heading == "pairs, each image of a pair, input 8×8×1"
    assert json.loads((tmp_path / "inspection.json").read_text())["layers"][0]["path"] == "stem_conv"
    model, shape, variables = one_image(built.model, (8, 8, 2), shapes_of(built.model, (8, 8, 2)))
    assert variables == shapes_of(model, shape)


class Sequence(nn.Module):
    """Two convolutions over any number of axes, their mean, a head."""

    num_space: int

    @nn.compact
    def __call__(self, x, train: bool):
        for i in (1, 2):
            x = nn.relu(Conv(4, (3,) * self.num_space, padding=1, name=f"conv{i}")(x))
        return Head(5, name="head")(x.mean(tuple(range(1, x.ndim - 1))))


@pytest.mark.parametrize(("shape", "seen"), [((32, 2), "5"), ((12, 12, 2), "5×5"), ((8, 12, 10, 2), "5×5×5")])
def test_networks_on_one_and_three_axes_are_inspected_as_those_on_images(shape, seen, tmp_path):
    shown = printed(inspect(Sequence(len(shape) - 1), shape, tmp_path, name="sequence"))
    assert f"One output of conv2 may see {seen} input positions" in shown
    assert json.loads((tmp_path / "inspection.json").read_text())["receptive_field"]["theoretical"] == [5] * (len(shape) - 1)
    picture = np.asarray(Image.open(tmp_path / "receptive_field.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


class Helped(nn.Module):
    """A head, and another that only training uses."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = x.mean((1, 2))
        if train or self.is_initializing():
            Head(5, name="auxiliary")(x)
        return Head(5, name="head")(x)


def test_parameters_that_only_training_uses_are_counted_apart():
    model, shape = MODELS["inception_v3"](num_outputs=1000, auxiliary=True), (299, 299, 3)
    layers = anatomy(model, shape)
    assert sum(layer.num_params for layer in layers) == 23_834_568
    assert training_only(model, shape, layers) == {"auxiliary": 27_161_264 - 23_834_568}


def test_inspect_names_what_only_training_uses(tmp_path):
    lines = printed(inspect(Helped(), (8, 8, 2), tmp_path, name="helped")).splitlines()
    assert "Further 15 parameters, of auxiliary, are used in training only: 30 with them." in lines


def test_describe_names_what_only_training_uses():
    small = dataclasses.replace(EXPERIMENTS["lfw_resnet"], model=Spec("googlenet", auxiliary=True))
    shown = Console(width=200, file=io.StringIO(), record=True)
    shown.print(description(small, small, ""))
    assert re.search(r"parameters +[0-9,]+, and [0-9,]+ that only training uses, of auxiliary1, auxiliary2", shown.export_text())


def test_resnet50s_totals_agree_with_the_compilers():
    """XLA reads no zeros of padding, as `connections`: it may only add normalisation, activations and pooling, 1 % at most."""
    totals = survey(resnet50(num_outputs=1000), (224, 224, 3)).totals
    assert totals["num_params"] == 25_557_032
    assert totals["macs"] == pytest.approx(4.09e9, rel=1e-3)
    assert 2 * totals["connections"] <= totals["xla_flops"] <= 1.01 * 2 * totals["connections"]
    assert totals["xla_flops"] == pytest.approx(2 * totals["macs"], rel=0.03)
