"""Every registered experiment: it describes itself truly, and runs, stops, resumes and evaluates through launch.py."""

import json

import numpy as np
import pytest

from cnn_jax.build import build
from cnn_jax.description import count_params
from cnn_jax.experiment import from_json, to_json
from cnn_jax.registry import DATASETS
from cnn_jax.report import Report
from cnn_jax.tiny import tiny
from experiments import EXPERIMENTS
from tests.runs import REPOSITORY, launch_here

# Networks that take half a minute to compile: here with a small one, with their own in `make slow`.
LARGE_NETWORK = [
    "cars196_resnet50_triplet",
    "cifar10_resnet18",
    "cifar100_resnet18",
    "cub200_resnet50_multi_similarity",
    "imagenet_resnet50",
    "stanford_online_products_resnet50_supcon",
]
SHARED_NETWORK = "digits_resnet"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_what_its_card_says(name):
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    header = (REPOSITORY / "experiments" / f"{name}.py").read_text().split('"""')[1]
    assert f"python launch.py --experiment={name}" in header
    assert "unmeasured" in header or ("seeds" in header and experiment.about.expected is not None)
    assert count_params(experiment) == experiment.about.num_params
    assert build(experiment).dataset.bundled != experiment.about.needs_network
    assert from_json(to_json(experiment)) == experiment
    assert {e.name: e for e in EXPERIMENTS.values()} == EXPERIMENTS


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_NETWORK)
def test_large_network_trains_stops_resumes_and_evaluates(name, tmp_path, monkeypatch, capsys):
    """With its own network, and decoded by a worker."""
    run_interrupted(["--experiment=" + name, "--set=workers=1"], tmp_path / "run", monkeypatch, capsys)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_trains_stops_resumes_and_evaluates(name, tmp_path, monkeypatch, capsys):
    """The network that several experiments train runs whole in one; its first block does for the others, and a small one for the large."""
    model = ["--set=model=resnet8", "--set=model.width=8"] if name in LARGE_NETWORK else []
    if model or (name != SHARED_NETWORK and EXPERIMENTS[name].model == EXPERIMENTS[SHARED_NETWORK].model):
        model.append("--set=model.stage_sizes=1")
    run_interrupted([f"--experiment={name}", *model], tmp_path / "run", monkeypatch, capsys)


def run_interrupted(flags, workdir, monkeypatch, capsys):
    """Trains in tiny form, is interrupted, resumes and evaluates."""
    command = [*flags, "--tiny", f"--workdir={workdir}", "--num_devices=2"]
    advance = Report.advance

    def interrupted(report, step):
        if step > 2:
            raise KeyboardInterrupt  # Ctrl-C after three updates, or four at once; saved after two
        advance(report, step)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "advance", interrupted)
        assert launch_here(*command) == 130
    assert "interrupted; the same command continues" in capsys.readouterr().err

    assert launch_here(*command) == 0
    out = capsys.readouterr().out
    assert "continuing after step 2 of 4" in out
    assert "evaluated 21 of 21" in out
    steps = [(r["step"], r["split"]) for r in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())]
    assert steps == [(2, "train"), (2, "test"), (4, "train"), (4, "test")]

    assert launch_here("--mode=evaluate", f"--workdir={workdir}", "--num_devices=2", "--step=4") == 0
    assert "evaluated 21 of 21" in capsys.readouterr().out
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    for metric in set(last) - {"step", "split"}:
        np.testing.assert_allclose(evaluation[metric], last[metric], rtol=1e-5)
    assert len((workdir / "predictions.csv").read_text().splitlines()) == 22


def test_tiny_keeps_what_makes_the_experiment():
    experiment = EXPERIMENTS["imagenet_resnet50"]
    small = tiny(experiment)
    assert (small.model, small.loss, small.metrics, small.precision) == (
        experiment.model, experiment.loss, experiment.metrics, experiment.precision
    )  # fmt: skip
    assert build(small).dataset.input_shape == (32, 32, 3)


@pytest.mark.parametrize("name", [n for n in DATASETS if n != "generated"])
def test_every_data_set_but_the_made_up_one_is_in_an_experiment_or_the_readme(name):
    used = {e.dataset.name for e in EXPERIMENTS.values()}
    assert name in used or f"`{name}`" in (REPOSITORY / "README.md").read_text()
