"""An experiment as a frozen value of names and numbers, and its JSON form. Imports nothing heavy: listing is instant."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from cnn_jax.errors import UserError, shortened, unknown

Precision = Literal["auto", "float32", "bfloat16"]  # of a network's computations; parameters are always float32
Length = Literal["unit", "free"]  # of embeddings: scaled to 1, or as the network gives them


@dataclass(frozen=True, init=False)
class Spec:
    """A registered name with keyword arguments: `Spec("sgd", learning_rate=0.1)`.

    It is the only notion in a configuration. The keyword arguments are checked against the signature of what the
    name stands for when the experiment is built, before any data is read.

    >>> Spec("sgd", learning_rate=0.1)
    sgd(learning_rate=0.1)
    """

    name: str
    kwargs: Mapping[str, Any]

    def __init__(self, name: str, /, **kwargs: Any):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "kwargs", MappingProxyType(dict(kwargs)))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.kwargs.items())})"

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.kwargs.items()))))

    def __reduce__(self):  # a mappingproxy cannot be pickled, and grain's worker processes pickle
        return _spec_from, (self.name, dict(self.kwargs))

    def replace(self, **kwargs: Any) -> "Spec":
        """Returns this spec with some keyword arguments set."""
        return Spec(self.name, **{**self.kwargs, **kwargs})


def _spec_from(name: str, kwargs: dict[str, Any]) -> Spec:
    return Spec(name, **kwargs)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The range in which the final test figure of the unchanged experiment should lie."""

    metric: str
    low: float
    high: float = 1.0


@dataclass(frozen=True, kw_only=True)
class About:
    """What the list shows of an experiment. It describes; it changes nothing."""

    shows: str
    num_params: int
    needs_network: bool = False
    time: str = "-"  # of the whole command on two CPU cores
    expected: Expected | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides a run's numbers, as plain values. Steps are counted in updates of the parameters.

    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> mine.batch_size, mine.loss
    (128, softmax_cross_entropy())
    """

    name: str  # the registry's key, and the name of the file
    about: About
    model: Spec
    dataset: Spec
    sampler: Spec = Spec("shuffled")  # which examples make a batch
    augment: tuple[Spec, ...] = ()
    mix: tuple[Spec, ...] = ()  # mixup, CutMix: one of them for each batch, drawn anew; training metrics count own labels
    # Learn without labels: each image twice, augmented anew each time, as a class of its own. Figures of training then take images for
    # classes; those of the test set, which pick the best checkpoint, are of the labels.
    two_views: bool = False
    loss: Spec = Spec("softmax_cross_entropy")
    miner: tuple[Spec, ...] = ()  # none or one: which pairs a loss on embeddings reads
    memory_size: int = 0  # embeddings of earlier batches that a batch is compared with as well, in training only
    loss_learning_rate: float | None = None  # of the loss' own weights; None: the optimizer's
    metrics: tuple[Spec, ...] = (Spec("accuracy"),)
    retrieval: tuple[Spec, ...] = ()  # metrics over all test embeddings at once
    embedding_size: int = 64  # of embeddings, which losses on embeddings read
    embedding_length: Length = "unit"  # "free": as the network gives them, for losses of products or variances (VICReg, N-pairs)
    optimizer: Spec = Spec("sgd", learning_rate=0.1)
    schedule: Spec = Spec("warmup_cosine")
    batch_size: int = 128
    eval_batch_size: int = 256
    num_steps: int = 1000
    log_every: int = 50
    eval_every: int = 500
    save_every: int | None = None  # None: with every evaluation
    best_by: str = "accuracy"  # the test metric that picks the best checkpoint; for "loss" lower is better
    keep_best: int = 1  # checkpoints that are kept beside the last: the best so many, by that metric
    keep_every: int | None = None  # and those after every so many updates
    max_skipped: int = 10  # updates in a row that are left out since their loss or gradient is not finite; then the run ends
    seed: int = 0
    precision: Precision = "auto"  # of the computation: float32 on CPU, bfloat16 on GPU and TPU; parameters are float32 always
    accumulate_steps: int = 1  # micro-batches an update; BatchNorm and in-batch pairs see one micro-batch
    clip_norm: float | None = None
    ema_decay: float | None = None  # of params and batch_stats; evaluation then uses the average
    steps_per_dispatch: int = 1  # updates that are handed to the device at once; the numbers are the same
    workers: int = 2  # processes that decode images, for data sets that do not fit in memory
    max_bad_fraction: float = 0.01  # of a split's examples, which may be unusable: they are replaced, and recorded


_NESTED = {"about": About, "expected": Expected}
_SPECS = ("model", "dataset", "sampler", "loss", "optimizer", "schedule")
_LISTS = ("augment", "mix", "miner", "metrics", "retrieval")


def to_json(experiment: Experiment) -> str:
    """Returns the experiment as indented JSON, read back by `from_json`.

    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> to_json(mine).splitlines()[1]
    '  "name": "mine",'
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Spec):
            return {"name": value.name, "kwargs": {k: plain(v) for k, v in value.kwargs.items()}}
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        return value

    return json.dumps(plain(experiment), indent=2) + "\n"


def from_json(text: str, source: str = "experiment.json") -> Experiment:
    """Returns the experiment written by `to_json`.

    Args:
      source: what to call the text in the error.

    Raises:
      UserError: the text is not JSON, or not of this version's form; names `source` and the field.

    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> from_json(to_json(mine)) == mine
    True
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:  # of Python's whole numbers, too, some are too long
        raise UserError(f"{source} is not valid JSON ({shortened(error)}). Was it edited? Restore it, or use another --workdir.") from None
    try:
        return _revive(Experiment, fields)
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise UserError(f"{source} does not describe an experiment of this version: {shortened(error)}. Use another --workdir.") from None


def _revive(kind: type, fields: dict[str, Any]) -> Any:
    names = [f.name for f in dataclasses.fields(kind)]
    for key in fields:
        if key not in names:
            raise ValueError(str(unknown("field", key, names)))
    values = {}
    for key, value in fields.items():
        if key in _NESTED and value is not None:
            values[key] = _revive(_NESTED[key], value)
        elif key in _SPECS:
            values[key] = _revive_spec(value)
        elif key in _LISTS:
            values[key] = tuple(_revive_spec(v) for v in value)
        else:
            values[key] = value
    return kind(**values)


def _revive_spec(value: dict[str, Any]) -> Spec:
    kwargs = {k: tuple(v) if isinstance(v, list) else v for k, v in value["kwargs"].items()}
    return Spec(value["name"], **kwargs)


def flatten(experiment: Experiment) -> dict[str, Any]:
    """Returns the settings that decide the numbers as {dotted key: value}, in the form `--set` takes.

    >>> about = About(shows="", num_params=0)
    >>> flatten(Experiment(name="mine", about=about, model=Spec("lenet5"), dataset=Spec("digits")))["model"]
    'lenet5'
    """
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(experiment):
        value = getattr(experiment, f.name)
        if f.name in ("name", "about"):
            continue
        if isinstance(value, Spec):
            _flatten_spec(f.name, value, flat)
        elif isinstance(value, tuple):
            flat[f.name] = ",".join(spec.name for spec in value)
            for i, spec in enumerate(value):
                _flatten_spec(f"{f.name}.{i}", spec, flat, name=False)
        else:
            flat[f.name] = value
    return flat


def _flatten_spec(prefix: str, spec: Spec, flat: dict[str, Any], name: bool = True) -> None:
    if name:
        flat[prefix] = spec.name
    for key, value in spec.kwargs.items():
        flat[f"{prefix}.{key}"] = value


def differences(old: Experiment, new: Experiment) -> list[tuple[str, Any, Any]]:
    """Returns (dotted key, old value, new value) for each setting that differs; None stands for "not set".

    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> differences(mine, dataclasses.replace(mine, batch_size=64))
    [('batch_size', 128, 64)]
    """
    before, after = flatten(old), flatten(new)
    keys = [*before, *(k for k in after if k not in before)]
    return [(k, before.get(k), after.get(k)) for k in keys if before.get(k) != after.get(k)]
