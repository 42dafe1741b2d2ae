"""The offline experiments' results over five seeds, as their headers report them. `make slow` runs and prints them."""

import json
import re
import time

import numpy as np
import pytest

from experiments import EXPERIMENTS
from tests.runs import launch

SEEDS = range(5)


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
    for metric in runs[0]:
        values = [figures[metric] for figures in runs]
        print(f"  {metric:24} {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}  ({min(values):.4f} to {max(values):.4f})", flush=True)
    values = [figures[expected.metric] for figures in runs]
    assert expected.low <= np.mean(values) <= expected.high
    if name == "digits_resnet":
        assert np.mean(values) >= 0.990
        assert max(times) < 90  # of the whole command, start and compilation included
