"""Every registered model: its published size; that it learns, jit equals eager, devices do not matter, and what training changes.

The smallest of each family runs for real, unless that takes half a minute, and the others by shapes; `make models` runs all for real,
compiled as a user's.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax.anatomy import anatomy
from cnn_jax.layers import BatchNorm
from cnn_jax.registry import MODELS
from cnn_jax.step import gather
from tests.model_sizes import FAMILIES, MACS, PUBLISHED, SIDE

SMALLEST = [names[0] for names in FAMILIES.values()]
LARGE = ("convnext_tiny", "densenet100", "efficientnet_b0", "googlenet", "inception_v3")
EVERY = [pytest.param(name, marks=[] if name in SMALLEST and name not in LARGE else pytest.mark.slow) for name in MODELS]


def shapes(model, shape):
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, *shape)))


def taken_out_again(name, path):
    """Whether a later BatchNorm takes this bias out again, so that its gradient is zero but for rounding, as in torchvision's nets."""
    if name.startswith("vgg") and name.endswith("_bn"):
        return "conv" in path[-2] and path[-1] == "bias"
    return name.startswith(("mobilenet", "efficientnet")) and path[-2:] == ["project_bn", "bias"]


@pytest.fixture(scope="module", params=EVERY)  # of the module: pytest then runs a network's tests one after another
def example(request):
    """A model's name, the model with six classes, its variables, and four images of the least sensible size."""
    name = request.param
    quickly = request.config.option.markexpr == "not slow"  # else optimised, but for the first state, as in a run
    model = MODELS[name](num_outputs=6)
    side = SIDE.get(name, 32)
    x = jnp.array(np.random.default_rng(0).normal(size=(4, side, side, 3)), jnp.float32)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(1), x[:1])
    jax.config.update("jax_disable_most_optimizations", quickly)
    yield name, model, variables, x
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()  # its programs would stay in memory, 70 networks' of them


def training_loss(model, params, rest, x, key, axis_name=None):
    """A loss that every output and every auxiliary output enters, of the global batch; and what training changed."""
    outputs, updates = model.apply({**rest, "params": params}, x, train=True, mutable=["batch_stats", "auxiliary"], rngs={"dropout": key})
    auxiliary = jax.tree.leaves(updates.pop("auxiliary", {}))  # logits and weights; the weights are plain numbers
    target = jnp.arange(6.0)[None]
    losses = [jnp.square(gather(y, axis_name) - target).mean() for y in (outputs, *auxiliary) if jnp.ndim(y) == 2]
    return sum(losses), (outputs, updates)


def test_every_model_is_in_a_family_and_has_its_size():
    assert sorted(MODELS) == sorted(name for names in FAMILIES.values() for name in names)
    assert sorted(MODELS) == sorted(PUBLISHED)


def count_macs(jaxpr):
    """Multiply-adds of the convolutions and products in a program, from the shapes of its operations alone."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "correlation":
            kernel = equation.invars[1].aval.shape
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[-1]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
        total += sum(count_macs(v.jaxpr) for v in equation.params.values() if hasattr(v, "jaxpr"))
    return total


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_cost_are_as_published_and_outputs_are_float32(name):
    """Computed in bfloat16, so that a layer that forgets its dtype, or a head that forgets float32, is seen as well."""
    num_outputs, shape, num_params = PUBLISHED[name]
    model = MODELS[name](num_outputs=num_outputs, dtype=jnp.bfloat16)
    start = partial(model.init_with_output, jax.random.key(0), train=False)
    program, (outputs, variables) = jax.make_jaxpr(start, return_shape=True)(jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == num_params
    assert (outputs.shape, outputs.dtype) == ((2, num_outputs), jnp.float32)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    if name in MACS:
        assert count_macs(program.jaxpr) / 2e9 == pytest.approx(MACS[name], rel=0.03)


@pytest.mark.parametrize("name", ["resnet50", "resnet18", "resnext50_32x4d", "mobilenet_v2", "efficientnet_b0", "densenet121",
                                  "googlenet", "inception_v3", "convnext_tiny", "vgg16", "alexnet"])  # fmt: skip
def test_inspects_rows_add_up_to_what_is_published(name):
    num_outputs, shape, num_params = PUBLISHED[name]
    rows = anatomy(MODELS[name](num_outputs=num_outputs), shape)
    assert sum(row.macs for row in rows) / 1e9 == pytest.approx(MACS[name], rel=1e-2)
    assert sum(row.num_params for row in rows) == num_params


@pytest.mark.parametrize("name", [name for name in SMALLEST if name != "lenet5"])  # its end is no head: distances to class codes
def test_the_head_can_be_left_out(name):
    side = SIDE.get(name, 32)
    model = MODELS[name](num_outputs=0)
    variables = shapes(model, (side, side, 3))
    assert "head" not in variables["params"]
    features = jax.eval_shape(partial(model.apply, train=False), variables, jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32))
    assert features.ndim == 2


def test_every_parameter_learns(example):
    name, model, variables, x = example
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    loss = partial(training_loss, model)
    gradient, _ = jax.jit(jax.grad(loss, has_aux=True))(params, rest, x, jax.random.key(2))
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(g).all(), path
        assert np.abs(g).max() > 0 or taken_out_again(name, [entry.key for entry in path]), path


def test_four_devices_under_jit_and_pmap_do_not_change_training(example):
    """Outputs, loss and statistics of the global batch; how gradients are gathered is tested in test_parallel.py.

    In double precision where there is BatchNorm: statistics of four small images make a deep net so sensitive that single precision
    differs visibly. Nets without need not pay for that (the largest would take 17 GB); and EfficientNets cannot: on CPU XLA makes their
    depthwise kernels dense in double precision (14 GB for B3). They get larger images instead, whose statistics are steadier.
    """
    name, _, variables, x = example
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    key = jax.random.key(2)
    with jax.enable_x64(True):
        single = "batch_stats" not in rest or name.startswith("efficientnet")
        model = MODELS[name](num_outputs=6, dtype=jnp.float32 if single else jnp.float64)

        def mapped(params, rest, x, key):
            loss, (outputs, updates) = training_loss(model.clone(axis_name="data"), params, rest, x, key, axis_name="data")
            return loss, (gather(outputs, "data"), updates)

        ours = jax.pmap(mapped, "data", in_axes=(None, None, 0, None), out_axes=None)(params, rest, x[:, None], key)
        mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
        split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
        compiled = jax.jit(partial(training_loss, model), in_shardings=(whole, whole, split, whole), out_shardings=whole)
        theirs = compiled(params, rest, x, key)

    updates = theirs[1][1]
    assert set(updates) <= {"batch_stats"}
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(float(np.abs(b).max()), 1))
    before, after = (jax.tree.leaves(v.get("batch_stats", {})) for v in (variables, updates))
    assert len(before) == len(after)
    assert all(not np.array_equal(b, a) for b, a in zip(before, after, strict=True))


def test_jit_equals_eager_and_evaluation_is_pure(example):
    _, model, variables, x = example
    compiled = jax.jit(partial(model.apply, train=False))(variables, x)
    with jax.disable_jit():
        eager, updates = model.apply(variables, x[:1], train=False, mutable=True)
    scale = float(jnp.abs(compiled).max())
    np.testing.assert_allclose(compiled[:1], eager, rtol=1e-3, atol=1e-4 * scale)  # an example's outputs do not hang on its batch
    assert set(updates) == set(variables)  # nothing is sown
    jax.tree.map(np.testing.assert_array_equal, dict(updates), dict(variables))


def test_training_differs_from_evaluation_only_by_statistics_and_chance(example):
    """With BatchNorm's statistics those of the batch and all rates zero, both modes give the same outputs."""
    _, model, variables, x = example
    rates = {field: 0.0 for field in model.__dataclass_fields__ if "drop" in field or field == "stochastic_depth"}
    frozen = with_frozen_norm(model.clone(**rates))
    train, evaluate = (jax.jit(partial(frozen, train=mode))(variables, x) for mode in (True, False))
    np.testing.assert_allclose(train, evaluate, rtol=1e-4, atol=1e-4 * float(jnp.abs(evaluate).max()))


def with_frozen_norm(model):
    """The model with every BatchNorm frozen, as a function."""

    def freeze(next_fun, args, kwargs, context):
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            return next_fun(args[0], False)
        return next_fun(*args, **kwargs)

    def apply(variables, x, *, train):
        with nn.intercept_methods(freeze):
            return model.apply(variables, x, train=train, mutable=["batch_stats", "auxiliary"])[0]

    return apply


def test_zero_init_residual_makes_blocks_the_identity():
    model = MODELS["resnet8"](num_outputs=3, zero_init_residual=True)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    assert (variables["params"]["stage2_block1"]["bn2"]["scale"] == 0).all()
    assert (variables["params"]["stage2_block1"]["bn1"]["scale"] == 1).all()
