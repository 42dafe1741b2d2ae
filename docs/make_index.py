"""Writes docs/index.md: every public name of cnn_jax with its purpose, read off the source. `python docs/make_index.py`.

Imports nothing of the project; tests/test_docs.py checks that the page is up to date and that no name lacks a purpose.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "index.md"
# Packages in the order a newcomer meets them; the rest, single files, come last.
PACKAGES = ("ops", "ops/augment", "layers", "models", "losses", "metrics", "data", "")


def purpose(node: ast.AST) -> str:
    """Returns the first sentence of a docstring, on one line."""
    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\. (?=[A-Z])", text)[0].rstrip(".:").replace("|", "\\|")


def public(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (name, purpose) of a module's public functions, classes and module partials (model sizes)."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, purpose(node)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "partial":
            arguments = ", ".join(ast.unparse(k) for k in node.value.keywords)
            for target in node.targets:
                if not target.id.startswith("_"):
                    yield target.id, f"`{ast.unparse(node.value.args[0])}` with {arguments}"


def page() -> str:
    """Returns the whole page."""
    lines = [
        "# Every public name",
        "",
        "Generated from the source by `python docs/make_index.py`. What can be named in an experiment or with `--set` is in",
        "[`cnn_jax/registry.py`](../cnn_jax/registry.py).",
        "",
    ]
    for package in PACKAGES:
        lines += [f"## cnn_jax/{package}".rstrip("/"), ""]
        for path in sorted((ROOT / "cnn_jax" / package).glob("*.py")):
            names = [] if path.stem == "__init__" else list(public(path))
            if names:
                where = path.relative_to(ROOT)
                lines += [f"**[{where.stem}](../{where})**: {purpose(ast.parse(path.read_text()))}", "", "| name | purpose |", "|---|---|"]
                lines += [f"| `{name}` | {text} |" for name, text in names] + [""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
