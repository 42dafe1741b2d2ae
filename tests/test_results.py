"""The offline experiments' results over five seeds, as their headers report them. `make slow` runs and prints them."""

import json
import re
import time

import numpy as np
import pytest

from experiments import EXPERIMENTS
from tests.runs import launch

SEEDS = range(5)
# The least that the mean over seeds must be.
_HELD_OUT = {"recall_at_1": 0.98, "map_at_r": 0.95}
LEAST = {
    "digits_resnet": {"accuracy": 0.990},
    "digits_resnet_triplet": _HELD_OUT,
    "digits_resnet_contrastive": _HELD_OUT,
    "digits_resnet_supcon": _HELD_OUT,
    "digits_resnet_arcface": _HELD_OUT,
    "digits_resnet_ranking": _HELD_OUT,
    "digits_unseen_resnet_contrastive": {"recall_at_1": 0.989, "map_at_r": 0.611},  # those of the pixels
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, e in EXPERIMENTS.items() if not e.about.needs_network])
def test_result_over_five_seeds(name, tmp_path):
    expected = EXPERIMENTS[name].about.expected
    runs, times = [], []
    for seed in SEEDS:
        workdir = tmp_path / str(seed)
        start = time.perf_counter()
        result = launch(f"--experiment={name}", f"--seed={seed}", f"--workdir={workdir}")
        times.append(time.perf_counter() - start)
        assert result.returncode == 0, result.stderr
        assert re.search(r"final test .* is (within|OUTSIDE)", result.stdout)
        last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
        runs.append({metric: value for metric, value in last.items() if isinstance(value, float) and metric != "loss"})
    print(f"\n{name}: 5 seeds, whole command {np.median(times):.0f} s")
    means = {metric: float(np.mean([figures[metric] for figures in runs])) for metric in runs[0]}
    for metric, mean in means.items():
        values = [figures[metric] for figures in runs]
        print(f"  {metric:24} {mean:.4f} ± {np.std(values, ddof=1):.4f}  ({min(values):.4f} to {max(values):.4f})", flush=True)
    assert expected.low <= means[expected.metric] <= expected.high
    for metric, least in LEAST.get(name, {}).items():
        assert means[metric] >= least, metric
    if name == "digits_resnet":
        assert max(times) < 90  # of the whole command, start and compilation included
