"""The generated pages of docs/ are up to date."""

import importlib
import runpy

import pytest

from tests.runs import REPOSITORY

INDEX = runpy.run_path(str(REPOSITORY / "docs" / "make_index.py"))


def test_the_index_is_what_the_source_says():
    assert INDEX["PAGE"].read_text() == INDEX["page"](), "run `python docs/make_index.py`"


def test_the_index_leaves_out_no_name_that_can_be_imported():
    """Against the modules themselves, not against the generator: what a module defines and does not hide is in the page."""
    page = INDEX["PAGE"].read_text()
    for folder in ("ops", "layers", "losses", "metrics", "models"):
        for path in (REPOSITORY / "cnn_jax" / folder).rglob("*.py"):
            dotted = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            if path.stem == "__init__":
                continue
            source = "\n" + path.read_text()
            for name in vars(importlib.import_module(dotted)):
                defined = any(f"\n{start}{name}{end}" in source for start, end in (("def ", "("), ("class ", "("), ("", " = "), ("", ": ")))
                assert name.startswith("_") or not defined or f"| `{name}` |" in page, f"{dotted}.{name}"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "cnn_jax").rglob("*.py")), ids=lambda p: p.stem)
def test_every_public_name_has_a_purpose(path):
    for name, text in INDEX["public"](path):
        assert len(text) >= 5, f"{name} of {path.stem} does not say what it is for"
