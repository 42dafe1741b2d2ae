"""The generated pages of docs/ are up to date."""

import runpy

import pytest

from tests.runs import REPOSITORY

INDEX = runpy.run_path(str(REPOSITORY / "docs" / "make_index.py"))


def test_the_index_is_what_the_source_says():
    assert INDEX["PAGE"].read_text() == INDEX["page"](), "run `python docs/make_index.py`"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "cnn_jax").rglob("*.py")), ids=lambda p: p.stem)
def test_every_public_name_has_a_purpose(path):
    for name, text in INDEX["public"](path):
        assert len(text) >= 8, f"{name} of {path.stem} does not say what it is for"
