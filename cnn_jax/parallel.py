"""The only place that knows devices: the same step on one or many, by `jit` over a mesh or by `pmap`.

All give the same numbers. Under `jit` the compiler splits the work of a global batch; under `pmap` the step is told the
axis' name and gathers what it must. The state never has a device axis, so all else is the same in both. With `fsdp`, which is
`jit` too, each device keeps a part of the state, and gets the parameters whole for as long as a step computes with them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cnn_jax import processes
from cnn_jax.errors import UserError, unknown
from cnn_jax.tree_difference import name_of
from cnn_jax.types import Batch, PyTree

AXIS = "data"  # the name of the devices' axis
_WORTH_SPLITTING = 2**12  # numbers of an array


class Parallel(NamedTuple):
    """How steps run on devices.

    Attributes:
      name: as `--parallel` has it.
      axis_name: what the step is made with: None under jit.
      around: (step) -> the step, which brings together what it needs of a state that lies in parts, and leaves parts.
      make: (f) -> f(), compiled: a state, where it is to be.
      shapes: (f) -> the shapes of f() without its numbers, and where they are to be.
      place: puts NumPy arrays on the devices, whole on each.
      shard: puts a batch of NumPy arrays on the devices, each its part; of several processes each gives its `processes.share`. The copy
        goes on when it returns; so it does for `shard_stacked`.
      shard_stacked: the same with batches that are stacked along a first axis.
      compile: (step, state, batch, donate) -> the step, compiled once for these shapes; other shapes are an error.
      compile_steps: (steps, state, data, batches) -> steps as from `step.make_steps`, compiled once. The state is given away.
    """

    name: str
    num_devices: int
    axis_name: str | None
    around: Callable[[Callable[..., Any]], Callable[..., Any]]
    make: Callable[[Callable[[], PyTree]], PyTree]
    shapes: Callable[[Callable[[], PyTree]], PyTree]
    place: Callable[[PyTree], PyTree]
    shard: Callable[[Batch], Batch]
    shard_stacked: Callable[[Batch], Batch]
    compile: Callable[..., Callable[[PyTree, Batch], Any]]
    compile_steps: Callable[..., Callable[[PyTree, PyTree, Batch, int], Any]]


def over_mesh(devices: list[jax.Device]) -> Parallel:
    """Returns `jit` over a one-dimensional mesh: state replicated, batches split along their first axis.

    >>> parallel = over_mesh(jax.local_devices()[:1])
    >>> parallel.num_devices, parallel.axis_name
    (1, None)
    """
    mesh = _mesh(devices)
    whole = NamedSharding(mesh, P())
    return _by_jit("jit", mesh, lambda shape: whole, around=lambda step: step)


def over_parts(devices: list[jax.Device]) -> Parallel:
    """Returns `jit` over a mesh whose devices each keep a part of the large arrays of the state (FSDP): of parameters, optimizer, average.

    An array of at least 2¹² numbers is split along its longest axis that the devices divide, the last of equal ones; others are whole.

    Reference: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020, stage 3.

    >>> over_parts(jax.local_devices()[:1]).name
    'fsdp'
    """
    mesh, n = _mesh(devices), len(devices)
    whole = NamedSharding(mesh, P())

    def place(shape: tuple[int, ...]) -> NamedSharding:
        axes = [axis for axis, size in enumerate(shape) if size % n == 0]
        if n == 1 or not axes or math.prod(shape) < _WORTH_SPLITTING:
            return whole
        axis = max(axes, key=lambda a: (shape[a], a))
        return NamedSharding(mesh, P(*[None] * axis, AXIS))

    def around(step):
        def gathering(state: PyTree, batch: Batch) -> Any:
            places = jax.tree.map(lambda x: place(x.shape), state)
            # Momentum and average are only added to: they stay where they are.
            used = state.replace(params=jax.lax.with_sharding_constraint(state.params, jax.tree.map(lambda _: whole, state.params)))
            state, measures = step(used, batch)
            return jax.lax.with_sharding_constraint(state, places), measures

        return gathering

    return _by_jit("fsdp", mesh, place, around)


def _mesh(devices: list[jax.Device]) -> Mesh:
    # In the order of their processes, each of which brings one piece of a batch: jax.make_mesh may choose another on a TPU.
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _whole_on(sharding: NamedSharding, tree: PyTree) -> PyTree:
    """NumPy arrays, which all processes have, on all devices."""
    if processes.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), jax.tree.map(np.asarray, tree))


def _parts_on(sharding: NamedSharding, tree: PyTree) -> PyTree:
    """NumPy arrays, of which each process has its part."""
    if processes.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def _by_jit(name: str, mesh: Mesh, place: Callable[[tuple[int, ...]], NamedSharding], around: Callable) -> Parallel:
    whole, split, stacked = (NamedSharding(mesh, spec) for spec in (P(), P(AXIS), P(None, AXIS)))

    def places(tree):
        return jax.tree.map(lambda x: place(x.shape), tree)

    def compile_step(step, state, batch, *, donate: bool):
        @functools.wraps(step)
        def whole_first(state, batch):
            return step(jax.lax.with_sharding_constraint(state, jax.tree.map(lambda _: whole, state)), batch)

        # What is given away comes back; what is not is only read.
        out, step_fn = ((places(state), whole), step) if donate else (whole, whole_first)
        jitted = jax.jit(step_fn, in_shardings=(places(state), split), out_shardings=out, donate_argnums=0 if donate else ())
        return jitted.lower(state, batch).compile()

    def compile_steps(steps, state, data, batches):
        out = (places(state), whole)
        jitted = jax.jit(steps, in_shardings=(places(state), whole, stacked, whole), out_shardings=out, donate_argnums=0)
        return jitted.lower(state, data, batches, np.int32(1)).compile()

    return Parallel(
        name=name,
        num_devices=mesh.size,
        axis_name=None,
        around=around,
        make=lambda f: _made(f, places(jax.eval_shape(f))),
        shapes=lambda f: _shapes(f, place),
        place=lambda data: _whole_on(whole, data),
        shard=lambda batch: _parts_on(split, dict(batch)),
        shard_stacked=lambda batches: _parts_on(stacked, dict(batches)),
        compile=compile_step,
        compile_steps=compile_steps,
    )


def over_pmap(devices: list[jax.Device]) -> Parallel:
    """Returns `pmap` over the devices: state broadcast, batches given a leading device axis.

    >>> parallel = over_pmap(jax.local_devices()[:1])
    >>> parallel.num_devices, parallel.axis_name
    (1, 'data')
    """
    n, mesh = len(devices) // processes.count(), _mesh(devices)  # of several processes each reshapes its own part
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))

    def shard(batch: Batch) -> Batch:
        parts = jax.tree.map(lambda x: np.asarray(x).reshape(n, len(x) // n, *x.shape[1:]), dict(batch))
        return _parts_on(split, parts)

    def compile_step(step, state, batch, *, donate: bool):
        mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0 if donate else ())
        return mapped.lower(state, batch).compile()

    def shard_stacked(batches: Batch) -> Batch:
        parts = jax.tree.map(
            lambda x: np.moveaxis(np.asarray(x).reshape(len(x), n, x.shape[1] // n, *x.shape[2:]), 1, 0), dict(batches)
        )
        return _parts_on(split, parts)

    def compile_steps(steps, state, data, batches):
        axes = (None, None, 0, None)
        mapped = jax.pmap(steps, AXIS, in_axes=axes, out_axes=None, devices=devices, donate_argnums=0)
        return mapped.lower(state, data, batches, np.int32(1)).compile()

    return Parallel(
        name="pmap",
        num_devices=mesh.size,
        axis_name=AXIS,
        around=lambda step: step,
        make=lambda f: _made(f, jax.tree.map(lambda _: whole, jax.eval_shape(f))),
        shapes=lambda f: _shapes(f, lambda shape: whole),
        place=lambda data: _whole_on(whole, data),
        shard=shard,
        shard_stacked=shard_stacked,
        compile=compile_step,
        compile_steps=compile_steps,
    )


def _made(f: Callable[[], PyTree], places: PyTree) -> PyTree:
    # It runs once, so compiling is its time: on the CPU a fifth without optimising (ResNet-8: 0.6 s against 3.0).
    once = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    on_cpu = jax.tree.leaves(places)[0].mesh.devices.flat[0].platform == "cpu"
    return jax.jit(f, out_shardings=places, compiler_options=once if on_cpu else None)()


def _shapes(f: Callable[[], PyTree], place: Callable[[tuple[int, ...]], NamedSharding]) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x.shape)), jax.eval_shape(f))


# Ways to run steps on devices, by the name `--parallel` takes.
PARALLEL: dict[str, Callable[[list[jax.Device]], Parallel]] = {"jit": over_mesh, "pmap": over_pmap, "fsdp": over_parts}


def make_parallel(mode: str = "jit", num_devices: int | None = None) -> Parallel:
    """Returns the way of running steps called `mode` on the first `num_devices` devices, or on all, of all processes.

    Raises:
      UserError: there is no such mode, or there are fewer devices.

    >>> make_parallel("pmap", 1).axis_name
    'data'
    """
    if mode not in PARALLEL:
        raise unknown("--parallel", mode, PARALLEL)
    devices = jax.devices()
    if num_devices is not None and processes.count() > 1:
        if num_devices != jax.local_device_count():
            each = f"each of {processes.count()} processes has {jax.local_device_count()} devices"
            raise UserError(f"--num_devices={num_devices}, but {each}. Leave the flag out to use all of them.")
        num_devices = None
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise UserError(
            f"--num_devices={num_devices}, but this machine has {len(devices)} ({devices[0].device_kind}). "
            f"Leave the flag out to use all of them."
        )
    return PARALLEL[mode](devices[:num_devices])


def differing_copies(tree: PyTree) -> list[str]:
    """Returns the names of arrays whose copies on this process' devices are not the same bit for bit: one of them is broken.

    >>> differing_copies({"a": jax.numpy.ones(2)})
    []
    """
    differing = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if leaf.is_fully_replicated and len(leaf.addressable_shards) > 1:
            first, *others = (np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards)
            if any(other != first for other in others):
                differing.append(name_of(path))
    return differing


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function compiled for one device at its first call: for small work beside the steps.

    >>> compiled(lambda x: x + 1)(1).item()
    2
    """
    return jax.jit(function)


def count_flops(function: Callable[..., Any], *shapes: PyTree) -> float:
    """Returns the floating-point operations of `function` on arguments of these shapes, as XLA counts them before optimising.

    They are those of the program for a TPU, whose convolutions are XLA's own; no TPU is needed. On a CPU they are computed in other ways.

    Args:
      shapes: arrays, or `jax.ShapeDtypeStruct`s.

    >>> count_flops(lambda a, b: a @ b, np.ones((2, 3)), np.ones((3, 4)))  # 2 · 2·3·4
    48.0
    """
    lowered = jax.jit(function).trace(*shapes).lower(lowering_platforms=("tpu",))
    return float((lowered.cost_analysis() or {}).get("flops", float("nan")))
