"""`--set key=value`: an experiment with one setting changed, typed and checked by the signature it is for."""

import dataclasses
import typing
from collections.abc import Iterable

from cnn_jax.errors import UserError, unknown
from cnn_jax.experiment import Experiment, Spec
from cnn_jax.options import options, parse
from cnn_jax.registry import BY_FIELD


def override(experiment: Experiment, assignment: str) -> Experiment:
    """Returns the experiment with one "key=value" applied.

    Keys are fields (`batch_size=64`), names of registered things (`model=resnet18`), their options
    (`optimizer.learning_rate=0.1`), lists of names (`metrics=accuracy,top_k`) and options in a list (`metrics.1.k=3`).
    A new name starts from its own defaults: an SGD learning rate would be wrong for AdamW, a small net's width for ResNet-18.

    Raises:
      UserError: no such key, name or option (with the nearest ones), or a value of another type.

    >>> from cnn_jax.experiment import About
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"))
    >>> override(mine, "optimizer.learning_rate=0.5").optimizer
    sgd(learning_rate=0.5)
    """
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"--set {assignment!r} is not of the form key=value. Write --set batch_size=64, for example.")
    field, *rest = key.split(".")
    types = typing.get_type_hints(Experiment)
    settable = [name for name in types if name not in ("name", "about")]
    if field not in settable:
        # Someone may have left out the first part: learning_rate for optimizer.learning_rate.
        longer = [k for k in all_keys(experiment) if k.split(".")[-1] == key]
        way_out = f"Did you mean --set {longer[0]}={text}?" if longer else "See --mode=describe."
        raise unknown("setting", key, settable, way_out)
    if field not in BY_FIELD:
        if rest:
            raise UserError(f"--set {key}: {field} has no parts. Write --set {field}={text}.")
        return dataclasses.replace(experiment, **{field: parse(text, types[field], field)})
    value = getattr(experiment, field)
    new = _in_spec(value, field, rest, text) if isinstance(value, Spec) else _in_list(value, field, rest, text)
    return dataclasses.replace(experiment, **{field: new})


def override_all(experiment: Experiment, assignments: Iterable[str]) -> Experiment:
    """Returns the experiment with the assignments applied in turn.

    Raises:
      UserError: as `override`.

    >>> from cnn_jax.experiment import About
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"))
    >>> override_all(mine, ["model=resnet8", "model.width=8"]).model
    resnet8(width=8)
    """
    for assignment in assignments:
        experiment = override(experiment, assignment)
    return experiment


def all_keys(experiment: Experiment) -> list[str]:
    """Returns every key that `--set` takes for this experiment.

    >>> from cnn_jax.experiment import About
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"))
    >>> [key for key in all_keys(mine) if key.startswith("optimizer")]
    ['optimizer', 'optimizer.learning_rate', 'optimizer.momentum', 'optimizer.nesterov', 'optimizer.weight_decay']
    """
    keys = []
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if field.name in ("name", "about"):
            continue
        keys.append(field.name)
        specs = [(field.name, value)] if isinstance(value, Spec) else []
        if isinstance(value, tuple):
            specs = [(f"{field.name}.{i}", spec) for i, spec in enumerate(value)]
        for prefix, spec in specs:
            if spec.name in BY_FIELD[field.name]:
                keys += [f"{prefix}.{option}" for option in options(BY_FIELD[field.name][spec.name])]
    return keys


def _in_spec(spec: Spec, field: str, rest: list[str], text: str) -> Spec:
    registry = BY_FIELD[field]
    if not rest:
        return _renamed(spec, text.strip(), field)
    option = ".".join(rest)
    allowed = options(registry[spec.name])
    if option not in allowed:
        raise unknown(f"option of {field} {spec.name}", option, allowed)
    return spec.replace(**{option: parse(text, allowed[option].type, f"{field}.{option}")})


def _renamed(spec: Spec | None, name: str, field: str) -> Spec:
    if name not in BY_FIELD[field]:
        raise unknown(field, name, BY_FIELD[field])
    return spec if spec is not None and spec.name == name else Spec(name)


def _in_list(specs: tuple[Spec, ...], field: str, rest: list[str], text: str) -> tuple[Spec, ...]:
    if not rest:
        old = {spec.name: spec for spec in specs}
        names = [name.strip() for name in text.split(",") if name.strip()]
        return tuple(_renamed(old.get(name), name, field) for name in names)
    places = [str(i) for i in range(len(specs))]
    if rest[0] not in places:
        names = ", ".join(f"{field}.{i} is {spec.name}" for i, spec in enumerate(specs)) or f"{field} is empty"
        raise UserError(f"--set {field}.{'.'.join(rest)}: {field} is a list, whose entries are numbered ({names}).")
    i = int(rest[0])
    return (*specs[:i], _in_spec(specs[i], field, rest[1:], text), *specs[i + 1 :])
