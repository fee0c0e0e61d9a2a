"""Which part of a page does a command fill? What stands between its two marks."""

from __future__ import annotations

from pathlib import Path

from scorpio.files import write_atomic


def fill(page: Path, name: str, text: str) -> None:
    """Put `text`, which ends in a newline, between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

    Raises ValueError when the page has no such marks; it stays as it is then.
    """
    marks = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, begin, rest = page.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise ValueError(f"{page} has no {marks[0]!r} ... {marks[1]!r}")
    write_atomic(page, f"{before}{begin}{text}{end}{after}")
