"""What came out, for a spreadsheet? results.csv: a line for each policy, load and class.

Shares are 0..1, times milliseconds, `low` and `high` ends of 95 % intervals; empty where nothing
is defined. The class `(all)` is every request of the load; void runs take no part.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from workloads.results.aggregate import LoadPoint, Run
from workloads.results.fairness import Group
from workloads.results.intervals import mean_interval
from workloads.results.metrics import tpot_percentiles_ms, ttft_percentiles_ms
from workloads.results.records import Outcome, RequestRecord

ALL = "(all)"
COLUMNS = (
    "engine", "gpu", "trace", "mix", "policy", "rate_scale", "offered_rps", "class", "runs",
    "sent", "good", "attainment", "attainment_low", "attainment_high",
    "goodput_rps", "goodput_low", "goodput_high", "rejected_share", "failed_share",
    "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms", "tpot_p50_ms", "tpot_p90_ms", "tpot_p99_ms",
    "tries_per_request", "good_in_last_try", "worst_class", "worst_class_attainment",
    "worst_tenant", "worst_tenant_attainment", "jain_tenants",
)  # fmt: skip
Value = str | float | None


def results_csv(points: Iterable[LoadPoint]) -> str:
    """The whole file, its columns in the first line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for point in points:
        for row in _rows(point):
            writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _rows(point: LoadPoint) -> Iterable[Mapping[str, Value]]:
    where: dict[str, Value] = {
        **point.scenario._asdict(),
        "policy": point.policy,
        "rate_scale": point.rate_scale,
        "runs": len(point.runs),
    }
    fair = point.fairness
    yield {
        **where,
        "class": ALL,
        **_measured(point.runs, None),
        **_group("worst_class", None if fair is None else fair.worst_class),
        **_group("worst_tenant", None if fair is None else fair.worst_tenant),
        "jain_tenants": None if fair is None else fair.jain,
    }
    for name in sorted({record.slo_class for run in point.runs for record in run.records}):
        yield {**where, "class": name, **_measured(point.runs, name)}


def _measured(runs: Sequence[Run], name: str | None) -> dict[str, Value]:
    """Of one class, or of all requests."""
    parts = [(run, [r for r in run.ordered if name in (None, r.slo_class)]) for run in runs]
    parts = [(run, mine) for run, mine in parts if mine]
    records = [record for _, mine in parts for record in mine]
    if not records:
        return {}
    flags = [np.array([float(record.good) for record in mine]) for _, mine in parts]
    rates = [_offered_rps(run, mine) for run, mine in parts]
    found: dict[str, Value] = {
        "sent": len(records),
        "good": sum(record.good for record in records),
        "rejected_share": _share(records, Outcome.REJECTED),
        "failed_share": _share(records, Outcome.FAILED, Outcome.TIMED_OUT),
        "tries_per_request": sum(record.tries for record in records) / len(records),
        "good_in_last_try": sum(record.good_in_last_try for record in records) / len(records),
        **_interval("attainment", "attainment", flags),
    }
    known = [rate for rate in rates if rate is not None]
    if len(known) == len(rates):
        found["offered_rps"] = float(np.mean(known))
        good_rps = [good * rate for good, rate in zip(flags, known, strict=True)]
        found |= _interval("goodput_rps", "goodput", good_rps)
    for what, of in (("ttft", ttft_percentiles_ms), ("tpot", tpot_percentiles_ms)):
        found |= {f"{what}_{at}_ms": value for at, value in of(records).items()}
    return found


def _interval(mean: str, ends: str, values: Sequence[np.ndarray]) -> dict[str, Value]:
    found = mean_interval(values)
    return {mean: found.mean, f"{ends}_low": found.low, f"{ends}_high": found.high}


def _offered_rps(run: Run, mine: Sequence[RequestRecord]) -> float | None:
    rps = run.summary.offered_rps
    return None if rps is None else rps * len(mine) / run.summary.sent


def _share(records: Sequence[RequestRecord], *outcomes: Outcome) -> float:
    return sum(record.outcome in outcomes for record in records) / len(records)


def _group(what: str, group: Group | None) -> dict[str, Value]:
    return {} if group is None else {what: group.name, f"{what}_attainment": group.attainment}


def _cell(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
