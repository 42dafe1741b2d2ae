"""The comparison with torch misses no public name, and its page shows no difference without a reason. Read as text: torch is not needed."""

import ast
import runpy

import pytest

from tests.runs import REPOSITORY

TABLES = runpy.run_path(str(REPOSITORY / "benchmarks" / "torch_pairs.py"))
PAIRS, WITHOUT, EXPLAINED = (TABLES[name] for name in ("PAIRS", "WITHOUT", "EXPLAINED"))
PAIRED = {name for section in PAIRS.values() for name in section}
PAGE = (REPOSITORY / "docs" / "against_torch.md").read_text()
TOLERANCE = {"float32": 1e-5, "float64": 1e-9, "bfloat16": 2e-2}


def public_names():
    """Public functions and classes, and the initialisers made by a call, as "ops.conv.correlate"."""
    package = REPOSITORY / "cnn_jax"
    paths = [path for folder in ("ops", "layers", "losses") for path in (package / folder).rglob("*.py")]
    for path in sorted([*paths, package / "initialisers.py"]):
        if path.stem == "__init__":
            continue
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif module == "initialisers" and isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (f"{module}.{name}" for name in names if not name.startswith("_") and not name.isupper())


NAMES = sorted(public_names())


def prefixes(name):
    parts = name.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts) + 1)}


def test_names_are_found():
    assert {"ops.conv.correlate", "losses.binary.hinge", "layers.norm.BatchNorm", "initialisers.he_normal"} <= set(NAMES)
    assert len(NAMES) > 150


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_compared_with_torch_or_has_a_reason_not_to_be(name):
    assert name in PAIRED or prefixes(name) & WITHOUT.keys(), f"add {name} to PAIRS (with cases) or to WITHOUT in benchmarks/torch_pairs.py"


@pytest.mark.parametrize("name", sorted(PAIRED | WITHOUT.keys()))
def test_the_tables_hold_nothing_that_is_gone(name):
    assert name in NAMES or (name not in PAIRED and any(name in prefixes(n) for n in NAMES))


def test_no_name_is_both_compared_and_left_out():
    assert not [name for name in PAIRED if prefixes(name) & WITHOUT.keys()]


def test_every_pair_has_cases():
    """The keys of each table CASES, and of the tables it unpacks."""
    keys = set()
    for path in (REPOSITORY / "benchmarks").glob("torch_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict) and path.stem != "torch_pairs":
                keys |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    assert keys >= PAIRED


def rows():
    """Yields (title, {column: cell}) of the page's comparisons."""
    columns = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "ours" and "cases" in cells:
            columns = cells
        elif not line.startswith("|"):
            columns = []
        elif columns and cells[0].startswith("`"):
            yield cells[0].replace("`", ""), dict(zip(columns, cells, strict=True))


ROWS = dict(rows())


@pytest.mark.parametrize("section", PAIRS)
def test_the_page_has_a_row_for_each_pair(section):
    assert f"## {section}\n" in PAGE
    for name, theirs in PAIRS[section].items():
        assert ROWS[name]["torch"] == theirs, f"{name}: run `python -m benchmarks.against_torch`"


@pytest.mark.parametrize("title", ROWS)
def test_each_difference_on_the_page_is_rounding_or_explained_by_name(title):
    row = ROWS[title]
    assert int(row["cases"]) > 0
    cells = {column: cell for column, cell in row.items() if column.startswith(("value", "gradient"))}
    assert len(cells) in (4, 6)
    differs = any(cell != "–" and float(cell) > TOLERANCE[column.split()[-1]] for column, cell in cells.items())
    assert differs == (title in EXPLAINED)
    assert (row["note"] != "") == differs
    assert EXPLAINED.get(title, "") in PAGE


def test_the_page_says_how_it_was_made():
    for word in ("python -m benchmarks.against_torch", "torch 2.", "jax 0.", "Hardware:", "Date: 20"):
        assert word in PAGE
    assert set(EXPLAINED) <= set(ROWS)
