"""How do tables of the command line look? No lines; names to the left, numbers to the right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def plain_table(title: str | None, names: Iterable[str], numbers: Iterable[str]) -> Table:
    """A table without rows yet: columns of names, then columns of numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in names:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table
