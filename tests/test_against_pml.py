"""The page beside PyTorch Metric Learning shows every loss on embeddings, and no difference without a reason. Read as text: no torch."""

import ast

import pytest

from cnn_jax.options import reads
from cnn_jax.registry import LOSSES, MINERS
from tests.runs import REPOSITORY

PAGE = (REPOSITORY / "docs" / "against_pml.md").read_text()
TREE = ast.parse((REPOSITORY / "benchmarks" / "metric_pairs.py").read_text())
TABLES = {node.target.id: node.value for node in TREE.body if isinstance(node, ast.AnnAssign)}
PAIRS, LEARNED, EXPLAINED, WITHOUT = ({key.value for key in TABLES[name].keys} for name in ("PAIRS", "LEARNED", "EXPLAINED", "WITHOUT"))
ROWS = {}
LOSSES_SECTION, _, RETRIEVAL_SECTION = PAGE.partition("\n## Retrieval\n")
for line in LOSSES_SECTION.splitlines():
    if line.startswith("| `"):
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        ROWS[name.strip("`")] = cells


def test_the_page_has_a_row_for_each_pair():
    assert set(ROWS) == PAIRS | LEARNED, "run `python -m benchmarks.against_pml`"
    for word in ("python -m benchmarks.against_pml", "torch 2.", "pytorch-metric-learning 2.", " core", ", 20"):
        assert word in PAGE


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if reads(loss) == "embeddings"])
def test_every_loss_on_embeddings_is_compared_or_has_a_reason_not_to_be(name):
    loss = LOSSES[name]
    if isinstance(loss, type):
        assert loss.__name__ in LEARNED
    else:
        assert (name in {row.partition(",")[0] for row in PAIRS}) != (name in WITHOUT)


@pytest.mark.parametrize("name", MINERS)
def test_every_miner_is_compared_or_has_a_reason_not_to_be(name):
    compared = {f"contrastive, {name}", f"{name}, mined"} & PAIRS
    assert bool(compared) != (name in WITHOUT)
    assert set(LOSSES) | set(MINERS) >= WITHOUT


@pytest.mark.parametrize("name", ROWS)
def test_each_difference_is_rounding_or_explained_by_name(name):
    value, gradient, *_, note = ROWS[name]
    assert (max(float(value), float(gradient)) > 1e-5) == (name in EXPLAINED)
    assert bool(note) == (name in EXPLAINED)


def test_each_ratio_is_that_of_the_times_beside_it():
    timed = [cells for cells in ROWS.values() if len(cells) > 3]
    for _, _, ratio, ours, theirs, *_ in timed:
        low, high = ((float(theirs.split()[0]) + e) / (float(ours.split()[0]) - e) for e in (-0.05, 0.05))  # shown to 0.1 ms
        assert low - 0.05 <= float(ratio.strip("*")) <= high + 0.05


def test_retrieval_figures_agree():
    figures = [line.strip("| ").split(" | ") for line in RETRIEVAL_SECTION.splitlines() if "_" in line]
    assert len(figures) == 5
    for _, ours, theirs, difference in figures:
        assert abs(float(ours) - float(theirs)) <= 1e-5
        assert float(difference) <= 1e-5
