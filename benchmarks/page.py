"""What benchmarks write into pages of docs/, each between marks of its own."""

from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "metric_learning.md"


def held(name: str, page: Path = PAGE) -> list[str]:
    """Returns the lines between `<!-- name: begin -->` and `<!-- name: end -->`."""
    return page.read_text().split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0].splitlines()


def fill(name: str, lines: list[str], page: Path = PAGE) -> None:
    """Puts the lines between `<!-- name: begin -->` and `<!-- name: end -->`, in place of what stood there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = page.read_text()
    page.write_text("\n".join([text.split(begin)[0] + begin, "", *lines, "", end + text.split(end)[1]]))
    print(f"wrote {page}")
