"""On which line of a TOML file does a field stand? For messages; tomllib forgets it.

Only what people write is looked for: tables, and keys at the beginning of a line. What stands in an
inline table is on its line, and of what is not found the nearest table above counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

_HEAD = re.compile(r"\s*\[\[?\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+))*)\s*=""")


def line_of(text: str, field: Sequence[str | int]) -> int | None:
    """The line of the field, of the nearest table that it stands in, or of the first in it; None:
    it has none."""
    wanted = tuple(str(part) for part in field)
    table: tuple[str, ...] = ()
    best, known, first = None, 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if head := _HEAD.match(line):
            table = _parts(head[1])
            here = table
        elif key := _KEY.match(line):
            here = table + _parts(key[1])
        else:
            continue
        if first is None and here[: len(wanted)] == wanted:
            first = number
        if len(here) > known and wanted[: len(here)] == here:
            best, known = number, len(here)
    return best if best is not None else first


def _parts(dotted: str) -> tuple[str, ...]:
    """`a."b c".d` -> (a, b c, d)."""
    try:
        table: object = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return (dotted,)
    found: list[str] = []
    while isinstance(table, dict):
        name, table = next(iter(table.items()))
        found.append(name)
    return tuple(found)
