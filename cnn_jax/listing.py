"""The table of experiments that `launch.py` shows without arguments. Imports nothing heavy."""

from collections.abc import Mapping

from rich.table import Table

from cnn_jax.experiment import Experiment
from cnn_jax.report import spelled, table


def listing(experiments: Mapping[str, Experiment]) -> Table:
    """Returns a row an experiment: what it shows, and what it takes.

    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> listing({"mine": mine}).row_count
    1
    """
    rows = []
    for name, e in experiments.items():
        expected = e.about.expected
        result = "unmeasured" if expected is None else f"{spelled(expected.metric)} ≥ {expected.low:g}"
        network = "once" if e.about.needs_network else "no"
        rows.append([name, e.about.shows, e.dataset.name, e.about.num_params, result, e.about.time, network])
    return table(["experiment", "what it shows", "data", "parameters", "expected", "time", "network"], rows)
