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
    return first_sentence(ast.get_docstring(node) or "")


def first_sentence(text: str) -> str:
    """Returns it on one line, fit for a table."""
    line = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\. (?=[A-Z])", line)[0].rstrip(".:").replace("|", "\\|")


def public(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (name, purpose) of what a module defines: functions, classes, and values, such as the sizes of a model or a registry."""
    text = path.read_text()
    body = ast.parse(text).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name, what = node.name, purpose(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            name, what = getattr(target, "id", "_"), purpose_of_value(node, following, text.splitlines())
        else:
            continue
        if not name.startswith("_"):
            yield name, what


def purpose_of_value(node: ast.Assign | ast.AnnAssign, following: ast.AST | None, lines: list[str]) -> str:
    """Returns what the string below says, or the comment behind, or the comment above; "" where there is none."""
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) and isinstance(following.value.value, str):
        return first_sentence(following.value.value)
    behind = lines[node.lineno - 1].encode()[node.end_col_offset :].decode() if node.lineno == node.end_lineno else ""
    what = behind.lstrip("# ").rstrip(".").replace("|", "\\|")
    return what[:1].upper() + what[1:] or comment_above(lines, node.lineno)


def comment_above(lines: list[str], number: int) -> str:
    """Returns the comment that ends on the line before line `number` (from 1), on one line."""
    first = number - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return " ".join(line.lstrip("# ") for line in lines[first : number - 1]).rstrip(".").replace("|", "\\|")


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
