"""Metrics, initialisers, optimizers, features and networks name the argument that is not allowed, its value, and what is."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import anatomy, features, initialisers, mixing, optim
from cnn_jax.metrics.accuracy import accuracy, top_k
from cnn_jax.metrics.confusion import confusion
from cnn_jax.metrics.mean import Mean
from cnn_jax.metrics.neighbours import nearest_neighbours
from cnn_jax.metrics.retrieval import recall_at_k, retrieval_report
from cnn_jax.models.lenet import LeNet5
from cnn_jax.models.resnet import resnet8

KEY, RATE = jax.random.key(0), optim.constant(10)
LOGITS, LABELS, KERNEL = jnp.zeros((2, 3)), jnp.array([0, 2]), jnp.zeros((3, 3, 3, 8))
IMAGES, NETWORK = jnp.zeros((1, 32, 32, 1)), resnet8(num_outputs=3)

MISTAKES = {
    "metrics": [
        (lambda: accuracy(LOGITS, jnp.array([0, 3])), "labels[1]=3 is not allowed: labels must be from 0 to 2, for 3 classes"),
        (lambda: accuracy(LOGITS, jnp.array([-1, 0])), "labels[0]=-1 is not allowed: labels must be from 0 to 2"),
        (lambda: accuracy(LOGITS, jnp.array([0.0, 1.0])), "labels [2] (float32): labels must be ints [2]"),
        (lambda: accuracy(LOGITS[0], LABELS), "logits [3] must be [b, k]"),
        (lambda: accuracy(LOGITS, LABELS, where=jnp.ones(2)), "where [2] (float32) must be bool [2]"),
        (lambda: top_k(LOGITS, LABELS, k=0), "k=0 must be a whole number from 1 to 3, the number of classes"),
        (lambda: top_k(LOGITS, LABELS, k=4), "k=4 must be a whole number from 1 to 3"),
        (lambda: top_k(LOGITS, LABELS, k=2.0), "k=2.0 must be a whole number from 1 to 3"),
        (lambda: top_k(LOGITS, LABELS, k=True), "k=True must be a whole number from 1 to 3"),
        (lambda: confusion(LOGITS, jnp.array([0, 7])), "labels[1]=7 is not allowed: labels must be from 0 to 2"),
        (lambda: confusion(LOGITS, jnp.zeros(3, int)), "logits [2, 3] but labels [3] (int32): labels must be ints [2]"),
        (lambda: Mean.of(LOGITS), "values [2, 3] must be [b]"),
        (lambda: Mean.of([1.0]), "values must be an array of real numbers, got [1.0] (list)"),
        (lambda: retrieval_report(np.eye(4), np.zeros(3, int)), "embeddings [4, 4] but labels [3] (int64): labels must be ints [4]"),
        (lambda: recall_at_k(retrieval_report(np.eye(4), np.zeros(4, int)), k=0), "k=0 must be a whole number of at least 1"),
        (lambda: retrieval_report(np.ones(4), np.zeros(4)), "embeddings [4] must be rows [n, e]"),
        (lambda: nearest_neighbours(np.eye(4), k=1.0), "k must be from 1 to the number of other examples (3), got 1.0"),
        (lambda: nearest_neighbours(np.eye(4), block=0), "block=0 must be a whole number of at least 1"),
    ],
    "initialisers": [
        (lambda: initialisers.constant("one"), "value must be an array of real numbers, got 'one' (str)"),
        (lambda: initialisers.normal(None), "deviation=None must be at least 0 and finite (NoneType is no number)"),
        (lambda: initialisers.truncated_normal(float("inf")), "deviation=inf must be at least 0 and finite"),
        (lambda: initialisers.sparse("x"), "sparsity='x' must be from 0 to 1 (str is no number)"),
        (lambda: initialisers.orthogonal("x"), "scale='x' must be finite (str is no number)"),
        (lambda: initialisers.orthogonal()(KEY, (3,), jnp.float32), "a kernel of shape (3,) has no channels: it must be [*window, c_in, c"),
        (lambda: initialisers.lenet_uniform(KEY, (0, 3)), "shape=(0, 3) must be whole numbers of at least 1"),
        (lambda: initialisers.dirac(2.0), "groups=2.0 must be at least 1, a whole number"),
        (lambda: initialisers.named_initialiser(None), "Unknown initialiser None. Known: zeros, ones, normal"),
    ],
    "optimizers": [
        (lambda: optim.constant(0), "num_steps=0 must be a whole number of at least 1"),
        (lambda: optim.warmup_cosine(1e3), "num_steps=1000.0 must be a whole number of at least 1"),
        (lambda: optim.warmup_cosine(10, warmup_steps=-1), "warmup_steps=-1 must be a whole number of at least 0"),
        (lambda: optim.warmup_cosine(10, warmup_steps=2.5), "warmup_steps=2.5 must be a whole number of at least 0"),
        (lambda: optim.warmup_cosine(10, end_factor=-0.1), "end_factor=-0.1 must be from 0 to 1"),
        (lambda: optim.warmup_cosine(10, end_factor=1.5), "end_factor=1.5 must be from 0 to 1"),
        (lambda: optim.warmup_cosine(10, end_factor="low"), "end_factor='low' must be from 0 to 1 (str is no number)"),
        (lambda: optim.piecewise(10, warmup_steps=-2), "warmup_steps=-2 must be a whole number of at least 0"),
        (lambda: optim.piecewise(10, drops=0.5), "drops=0.5 must be a tuple of shares of num_steps, each at least 0 and less than 1"),
        (lambda: optim.piecewise(10, drops=(0.5, 1.5)), "drops=1.5 must be at least 0 and less than 1"),
        (lambda: optim.piecewise(10, drop_factor=-0.5), "drop_factor=-0.5 must be from 0 to 1"),
        (lambda: optim.sgd(RATE, learning_rate=-1), "learning_rate=-1 must be at least 0 and finite"),
        (lambda: optim.sgd(RATE, learning_rate=float("inf")), "learning_rate=inf must be at least 0 and finite"),
        (lambda: optim.sgd(RATE, learning_rate="0.1"), "learning_rate='0.1' must be at least 0 and finite (str is no number)"),
        (lambda: optim.sgd(RATE, momentum=1.0), "momentum=1.0 must be at least 0 and less than 1"),
        (lambda: optim.sgd(RATE, nesterov="no"), "nesterov='no' must be True or False"),
        (lambda: optim.sgd(0.1), "factor=0.1 must be a schedule: a function update -> factor, such as constant(num_steps)"),
        (lambda: optim.adamw(RATE, b2=None), "b2=None must be at least 0 and less than 1 (NoneType is no number)"),
        (lambda: optim.adamw(RATE, epsilon=-1e-8), "epsilon=-1e-08 must be at least 0 and finite"),
        (lambda: optim.adamw(RATE, weight_decay=float("nan")), "weight_decay=nan must be at least 0 and finite"),
        (lambda: optim.clipped(optim.sgd(RATE), 0.0), "max_norm=0.0 must be positive and finite, or None"),
        (lambda: optim.moving_average(1.5), "decay=1.5 must be from 0 to 1"),
    ],
    "networks": [
        (lambda: LeNet5(num_outputs=-1).init(KEY, IMAGES, train=False), "num_outputs=-1 must be at least 1, or 0 for no head"),
        (lambda: LeNet5(num_outputs=2.5).init(KEY, IMAGES, train=False), "num_outputs=2.5 must be of type int"),
        (lambda: LeNet5(num_outputs=True).init(KEY, IMAGES, train=False), "num_outputs=True must be of type int"),
        (lambda: features.adapt_inputs(KERNEL, 1.5), "channels=1.5 must be a whole number of at least 1"),
        (lambda: features.adapt_inputs(KERNEL, True), "channels=True must be a whole number of at least 1"),
        (lambda: features.adapt_inputs(KERNEL[0, 0, 0], 1), "kernel must be [*window, c_in, features], got shape (8,)"),
        (lambda: features.feature_names(LeNet5, (32, 32, 1)), "must be a Linen module, such as resnet8(num_outputs=10)"),
        (lambda: features.feature_names(NETWORK, (32.5, 32, 1)), "input_shape=(32.5, 32, 1) must be a whole number of at least 1"),
        (lambda: features.apply_with_features(NETWORK, {}, IMAGES, ["stem_bn"]), 'variables must be {"params": …, …}, as from model.init'),
        (lambda: features.apply_with_features(NETWORK, {"params": {}}, IMAGES, "stem_bn"), "names='stem_bn' must be a list of layers' nam"),
        (lambda: features.replace_head({}, {}), 'variables must be {"params": …, …}, as from model.init, got []'),
        (lambda: anatomy.anatomy(LeNet5, (32, 32, 1)), "must be a Linen module, such as resnet8(num_outputs=10)"),
        (lambda: anatomy.anatomy(NETWORK, (8.5, 8, 1)), "input_shape=(8.5, 8, 1) must be a whole number of at least 1"),
        (lambda: anatomy.field_of(NETWORK, (8, 8, 1), "stem"), "the model has no layer 'stem' (did you mean stem_conv?); it has stem_conv"),
        (lambda: anatomy.field_of(NETWORK, (8, 8, 1), 3), "the model has no layer 3 (did you mean stage3_block1/conv1?); it has stem_conv"),
        (lambda: mixing.make_mix([]), "mixtures=() must hold at least one"),
        (lambda: mixing.make_mix(["mixup"]), "mixtures='mixup' must be functions such as mixup and cutmix"),
        (lambda: mixing.mixed_loss("mse"), "loss_fn='mse' must be a loss of outputs and targets"),
        (lambda: mixing.of_own_target("accuracy"), "metric_fn='accuracy' must be a metric of outputs and targets"),
    ],
}
CASES = [pytest.param(call, message, id=f"{kind}: {message}") for kind, cases in MISTAKES.items() for call, message in cases]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "message"), CASES)
def test_what_is_not_allowed_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_lenet5_of_no_outputs_is_its_last_layer():
    shape = jax.eval_shape(partial(LeNet5(num_outputs=0).init_with_output, train=False), KEY, IMAGES)[0].shape
    assert shape == (1, 84)
