"""How is the answer to a what-if shown? One page, its numbers beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scorpio.files import write_atomic
from scorpio.studies.recorded.answers import ClassAnswer
from scorpio.studies.recorded.what_if import WhatIf
from scorpio.studies.recorded.words import (
    TERMS,
    at,
    how_wrong,
    percent,
    reservations,
    time_rows,
)
from workloads.report.figure_style import Plot
from workloads.report.findings import difference
from workloads.report.page_parts import (
    care_html,
    drawn_html,
    findings_html,
    table_html,
    whole_page,
)
from workloads.report.plots_answers import class_bars
from workloads.report.result_table import points_text
from workloads.results.intervals import Interval

PAGE, NUMBERS = "what-if.html", "what-if.json"


def write_what_if(found: WhatIf, out: Path, command: str) -> Path:
    """The page and its numbers. Returns the page."""
    content = {"command": command, **found.to_dict()}
    write_atomic(out / NUMBERS, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_atomic(out / PAGE, what_if_page(found, command))
    return out / PAGE


def headlines(found: WhatIf) -> list[str]:
    """Sentences, the answer first, then how wrong it may be."""
    whole = at(found.answers)
    assert whole.gain is not None
    assert whole.before is not None
    texts = [
        f"What if: {', '.join(found.change.told())}?",
        f"The requests that are there keep {100 * whole.after.mean:.1f} % of their promises in the"
        f" twin, after {100 * whole.before.mean:.1f} %: {difference(whole.gain)}.",
    ]
    texts += [
        f"Of the new class {row.name} {100 * row.after.mean:.1f} % are good."
        for row in found.answers
        if row.before is None
    ]
    return [*texts, how_wrong(found.error, found.times)]


def answer_table(found: WhatIf) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads, rows, heads of words."""
    heads = ["class", "requests", "as it is", "what if", "difference, points"]
    return heads, _cells(found.answers), heads[:1]


def error_table(found: WhatIf) -> tuple[list[str], list[list[str]], list[str]]:
    """The twin of what happened, against what happened."""
    heads = ["class", "requests", "happened", "twin", "error, points"]
    return heads, _cells(found.error), heads[:1]


def _cells(answers: Sequence[ClassAnswer]) -> list[list[str]]:
    return [
        [a.name, f"{a.requests:,}", percent(a.before), percent(a.after), points_text(a.gain)]
        for a in answers
    ]


def what_if_page(found: WhatIf, command: str) -> str:
    """The whole page."""
    traffic = found.traffic
    times = time_rows(found.times)
    parts = [
        f'<p class="sub">{len(traffic.requests):,} requests, {traffic.span}; served under'
        f" {traffic.policy}</p>",
        findings_html(headlines(found)),
        drawn_html(partial(_plot, found)),
        "<h2>Promises kept, class by class, in %</h2>",
        table_html(*answer_table(found)),
        "<h2>How wrong was the twin on what happened?</h2>",
        table_html(*error_table(found)),
        table_html(["", "happened, ms", "twin, ms", "error"], times, [""]),
        care_html("Read with care", reservations(traffic, found.seeds)),
    ]
    question = "What if the traffic or the engine were another?"
    return whole_page("Scorpio: what if", question, parts, TERMS, command)


def _plot(found: WhatIf) -> Plot:
    series: dict[str, list[Interval | None]] = {
        "twin: as it is": [row.before for row in found.answers],
        "twin: what if": [row.after for row in found.answers],
    }
    names = [row.name for row in found.answers]
    return class_bars(names, series, "Good requests of each class. Bars: 95 % intervals.")
