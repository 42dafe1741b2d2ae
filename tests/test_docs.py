"""The generated pages of docs/ are up to date."""

import importlib
import re
import runpy

import pytest

from tests.runs import REPOSITORY

INDEX = runpy.run_path(str(REPOSITORY / "docs" / "make_index.py"))


def test_the_index_is_what_the_source_says():
    assert INDEX["PAGE"].read_text() == INDEX["page"](), "run `python docs/make_index.py`"


def sections(page: str) -> dict[str, str]:
    """{path of a module: its part of the page}."""
    parts = re.split(r"^\*\*\[\w+\]\(\.\./(.+?)\)\*\*", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_index_leaves_out_no_name_that_can_be_imported():
    """Against the modules themselves, not against the generator: what a module defines and does not hide is in its section."""
    found = sections(INDEX["PAGE"].read_text())
    for folder in ("ops", "layers", "losses", "metrics", "models"):
        for path in (REPOSITORY / "cnn_jax" / folder).rglob("*.py"):
            relative = path.relative_to(REPOSITORY)
            dotted = ".".join(relative.with_suffix("").parts)
            if path.stem == "__init__":
                continue
            source = "\n" + path.read_text()
            for name in vars(importlib.import_module(dotted)):
                defined = any(f"\n{start}{name}{end}" in source for start, end in (("def ", "("), ("class ", "("), ("", " = "), ("", ": ")))
                assert name.startswith("_") or not defined or f"| `{name}` |" in found[relative.as_posix()], f"{dotted}.{name}"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "cnn_jax").rglob("*.py")), ids=lambda p: p.stem)
def test_every_public_name_has_a_purpose(path):
    for name, text in INDEX["public"](path):
        assert len(text) >= 5, f"{name} of {path.stem} does not say what it is for, above, behind or below it"
        assert not re.fullmatch(r"`[^`]*`", text), f"{name} of {path.stem} shows code instead of a purpose"


def test_a_value_says_what_it_is_for_below_it_or_behind_it_or_above_it(tmp_path):
    module = tmp_path / "values.py"
    module.write_text('# Above.\nA = 1\nB = "#"  # behind it\nC = 2  # not this\n"""Below.\n\nMore."""\n\nD = 3\n')
    assert dict(INDEX["public"](module)) == {"A": "Above", "B": "Behind it", "C": "Below", "D": ""}
