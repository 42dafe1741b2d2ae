"""What benchmarks write into docs/metric_learning.md, each between marks of its own."""

from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "metric_learning.md"


def held(name: str) -> list[str]:
    """Returns the lines between `<!-- name: begin -->` and `<!-- name: end -->`."""
    return PAGE.read_text().split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0].splitlines()


def fill(name: str, lines: list[str]) -> None:
    """Puts the lines between `<!-- name: begin -->` and `<!-- name: end -->`, in place of what stood there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = PAGE.read_text()
    PAGE.write_text("\n".join([text.split(begin)[0] + begin, "", *lines, "", end + text.split(end)[1]]))
    print(f"wrote {PAGE}")
