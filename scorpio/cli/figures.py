"""Which of the paper's figures, and how thoroughly? `scorpio figures`, rows on one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scorpio.cli.compare import progress_bar
from scorpio.cli.parse import command_line
from scorpio.cli.table import plain_table

_CURVES = ("t_s", "count")  # for the plot, not for a table


def draw_figures(
    names: Sequence[str],
    out: Path,
    seeds: tuple[int, ...],
    gap_ms: float | None,
    quick: bool,
    workers: int | None,
) -> None:
    """Run and draw. Raises UnknownName and MissingTraceError."""
    from scorpio.studies.paper.cases import PAPER_GAP_MS
    from scorpio.studies.paper.figures import FULL, QUICK, check_names, figure_names, run_figures

    wanted = list(names) or list(figure_names())
    check_names(wanted)  # before the bar: a wrong name costs one line
    gap_ms = PAPER_GAP_MS if gap_ms is None else gap_ms
    scale = QUICK if quick else replace(FULL, seeds=seeds)
    with progress_bar("figures") as progress:
        found = run_figures(wanted, out, scale, gap_ms, command_line(), workers, progress)
    for name, rows in found.items():
        _print(name, rows)
    print(out)


def _print(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console

    names = [name for name, value in rows[0].items() if isinstance(value, str)]
    numbers = [name for name in rows[0] if name not in (*names, *_CURVES)]
    table = plain_table(title, names, numbers)
    for row in rows:
        table.add_row(*(_cell(column, row[column]) for column in (*names, *numbers)))
    Console(width=100).print(table)


def _cell(column: str, value: Any) -> str:
    if isinstance(value, Mapping):  # an interval of a share
        return f"{100 * value['mean']:.1f} ({100 * value['low']:.0f}-{100 * value['high']:.0f})"
    if isinstance(value, float):
        return f"{100 * value:.2f}" if column.endswith("_share") else f"{value:.2f}"
    return str(value)
