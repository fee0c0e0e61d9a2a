"""What does a manager read of a shadow? What it would bring, to whom, and how sure that is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields
from functools import partial
from pathlib import Path

from scorpio.files import write_atomic
from scorpio.ledger.entry import ShadowVerdict
from scorpio.studies.recorded.shadow import Fate, ShadowReport
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

PAGE, NUMBERS, REQUESTS = "shadow.html", "shadow.json", "requests.csv"
_SHOWN = 20  # requests on the page; all are in REQUESTS
_SAID = [verdict.value for verdict in ShadowVerdict]


def write_shadow(report: ShadowReport, out: Path, command: str) -> Path:
    """The page, its numbers and a line for each request. Returns the page."""
    content = {"command": command, **report.to_dict()}
    write_atomic(out / NUMBERS, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_atomic(out / REQUESTS, _csv(report.fates))
    write_atomic(out / PAGE, shadow_page(report, command))
    return out / PAGE


def headlines(report: ShadowReport) -> list[str]:
    """Sentences, the most important first."""
    traffic, whole = report.traffic, at(report.answers)
    real = at(report.error).before
    assert whole.gain is not None
    assert real is not None
    counts = report.counts()
    still = sum("delayed" in fate.would and fate.then == "good" for fate in report.fates)
    texts = [
        f"{traffic.policy} kept {100 * real.mean:.1f} % of the promises; with {report.shadow} the"
        f" twin expects {100 * whole.after.mean:.1f} %: {difference(whole.gain)}.",
        f"Of {len(report.fates):,} requests {counts['saved']:,} that were late or refused would"
        f" have been good, {counts['lost']:,} that were good would not; {counts['refused']:,} would"
        f" have been refused, {counts['delayed']:,} would have had their first token later"
        f" ({still:,} of them still in time).",
        how_wrong(report.error, report.times),
    ]
    if report.forecasts:
        row = report.forecasts[-1]  # of those that are the most alike in both
        texts.append(
            f"What {report.shadow} itself expected of first tokens while it watched is typically"
            f" {100 * row.typical:.0f} % off what came under {traffic.policy} ({row.of},"
            f" {row.requests:,} requests)."
        )
    return texts


def shadow_page(report: ShadowReport, command: str) -> str:
    """The whole page."""
    traffic = report.traffic
    said = f"{traffic.span}; served under {traffic.policy}, {report.shadow} looked at it"
    parts = [
        f'<p class="sub">{len(traffic.requests):,} requests, {said}</p>',
        findings_html(headlines(report)),
        drawn_html(partial(_plot, report)),
        "<h2>Promises kept, class by class, in %</h2>",
        table_html(*class_table(report)),
        "<h2>How far is the twin from what happened?</h2>",
        table_html(["", "happened, ms", "twin, ms", "error"], time_rows(report.times), [""]),
        *_told(report),
        "<h2>Which requests?</h2>",
        "<p>Would have been, of each class:</p>",
        table_html(*_would_table(report)),
        *_examples(report),
        care_html("Read with care", reservations(traffic, report.seeds)),
    ]
    terms = {
        "Shadow": "a policy that is asked in each step and not obeyed. It sees what the serving "
        "policy makes of the queue; what would have come of what it says, the twin tells.",
        "Saved, lost": "not good as it happened, and good with the shadow; the other way round. "
        "Only where the twin agrees with what happened.",
        "Delayed": "served, with a first token that comes more than a tenth, and 50 ms, later.",
        **TERMS,
    }
    question = f"What would {report.shadow} have done with this traffic?"
    return whole_page("Scorpio: the shadow", question, parts, terms, command)


def class_table(report: ShadowReport) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads, rows, heads of words: what happened, and both runs of the twin."""
    policy, shadow = report.traffic.policy, report.shadow
    heads = ["class", "requests", "happened", f"twin: {policy}", f"twin: {shadow}", "gain, points"]
    heads.append("twin's error, points")
    rows = []
    for answer, error in zip(report.answers, report.error, strict=True):
        rows.append(
            [
                answer.name,
                f"{answer.requests:,}",
                percent(error.before),
                percent(answer.before),
                percent(answer.after),
                points_text(answer.gain),
                points_text(error.gain),
            ]
        )
    return heads, rows, ["class"]


def _would_table(report: ShadowReport) -> tuple[list[str], list[list[str]], list[str]]:
    words = ["saved", "lost", "refused", "delayed"]
    names = [answer.name for answer in report.answers[1:]]
    rows = []
    for name in names:
        counts = report.counts(name)
        rows.append([name, *(f"{counts[word]:,}" for word in words)])
    return ["class", *words], rows, ["class"]


def _told(report: ShadowReport) -> Iterator[str]:
    """What it said itself; nothing where none watched."""
    if not any(set(counts) - {ShadowVerdict.NONE.value} for counts in report.said.values()):
        return
    yield f"<h2>What did {report.shadow} say while it watched?</h2>"
    yield "<p>Of each request, beside what was done: refuse it, or start it earlier or later.</p>"
    rows = [
        [name, *(f"{counts.get(word, 0):,}" for word in _SAID)]
        for name, counts in report.said.items()
    ]
    yield table_html(["class", *_SAID], rows, ["class"])
    if report.forecasts:
        heads = ["its forecasts of TTFT", "requests", "typical error", "p90", "bias"]
        lines = [
            [row.of, f"{row.requests:,}", f"{100 * row.typical:.0f} %", f"{100 * row.p90:.0f} %",
             f"{100 * row.bias:+.0f} %"]
            for row in report.forecasts
        ]  # fmt: skip
        yield table_html(heads, lines, heads[:1])


def _examples(report: ShadowReport) -> Iterator[str]:
    chosen = [fate for fate in report.fates if "saved" in fate.would or "lost" in fate.would]
    if not chosen:
        return
    heads = ["request", "class", "happened", "then", "the shadow said"]
    rows = [
        [fate.id, fate.slo_class, fate.happened, fate.then, f"{fate.said} {fate.reason}".strip()]
        for fate in chosen[:_SHOWN]
    ]
    yield f"<details><summary>The first {len(rows)}; all are in {REQUESTS}</summary>"
    yield table_html(heads, rows, heads) + "</details>"


def _plot(report: ShadowReport) -> Plot:
    policy, shadow = report.traffic.policy, report.shadow
    series: dict[str, list[Interval | None]] = {
        "happened": [row.before for row in report.error],
        f"twin: {policy}": [row.before for row in report.answers],
        f"twin: {shadow}": [row.after for row in report.answers],
    }
    names = [row.name for row in report.answers]
    caption = f"Good requests of each class: as it happened, and in the twin under {policy} and"
    return class_bars(names, series, f"{caption} {shadow}. Bars: 95 % intervals.")


def _csv(fates: Sequence[Fate]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Fate)])
    writer.writerows(astuple(fate) for fate in fates)
    return text.getvalue()
