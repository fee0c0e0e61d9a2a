"""Which mutants survived, and why is that no loss? One row a mutant, the last one counts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten

from tests.simulation.mutate.mutants import PACKAGES, Mutant, place

REASONS = Path(__file__).with_name("survivors.json")


@dataclass(frozen=True, slots=True)
class Row:
    """A mutant's verdict. killed_by: "" = it survived. asked: the tests that let it live. left: how
    many more could have killed it, for which the budget did not suffice. where, code: its function
    and statement, which stay when lines move."""

    path: str
    line: int
    index: int
    change: str
    killed_by: str
    took_s: float
    asked: tuple[str, ...] = ()
    left: int = 0
    where: str = ""
    code: str = ""

    @property
    def mutant(self) -> Mutant:
        """What was judged."""
        return Mutant(self.path, self.line, self.index, self.change)

    @property
    def package(self) -> str:
        """scorpio/core or scorpio/engine."""
        return "/".join(self.path.split("/")[:2])


def read(path: Path) -> dict[str, Row]:
    """By mutant."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = (json.loads(line) for line in lines)
    known = [Row(**row | {"asked": tuple(row.get("asked", ()))}) for row in rows]
    return {row.mutant.key: row for row in known}


def add(path: Path, row: Row) -> None:
    """At the end of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def reasons() -> dict[tuple[str, str, str, str], str]:
    """Why a survivor is none to fear: by file, function, statement and change."""
    found = json.loads(REASONS.read_text()) if REASONS.exists() else []
    return {(r["path"], r["where"], r["code"], r["change"]): r["reason"] for r in found}


def report(rows: list[Row]) -> str:
    """Kill rate by package and the survivors, as Markdown."""
    total, killed = (
        Counter(r.package for r in rows),
        Counter(r.package for r in rows if r.killed_by),
    )
    known, lines = reasons(), ["| package | mutants | killed | |", "|---|---|---|---|"]
    for package in PACKAGES:
        if count := total[package]:
            share = f"{100 * killed[package] / count:.1f} %"
            lines.append(f"| `{package}` | {count} | {killed[package]} | {share} |")
    lines += [
        "",
        "Survivors, with the reason why no test can or need tell them from the code, or open:",
        "",
    ]
    lines += ["| where | statement | change | reason |", "|---|---|---|---|"]
    for row in sorted((r for r in rows if not r.killed_by), key=lambda r: (r.path, r.line)):
        where, code = (row.where, row.code) if row.code else place(row.mutant)
        reason = known.get((row.path, where, code, row.change), f"open; {row.left} tests not asked")
        cell = shorten(code.replace("|", "\\|"), 100, placeholder=" ...")
        lines.append(
            f"| `{row.path.removeprefix('scorpio/')}` {where} | `{cell}` | {row.change} "
            f"| {reason} |"
        )
    return "\n".join(lines) + "\n"
