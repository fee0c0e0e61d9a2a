"""Do replicas that come and go keep promises, and what do they cost? Fourteen days of ServeGen.

The fleet twin measures what N replicas keep of so much work, and serves parts of hours in which
replicas come and go; a coarse model of that curve then runs all days for each way to choose.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scorpio.studies.autoscale_days import (
    Goal,
    Scene,
    factor_for,
    least_fixed,
    systems,
    tuned_queue,
)
from scorpio.studies.autoscale_twin import (
    HOUR_REPLICAS,
    LEAD_TICKS,
    PART_TICKS,
    CurvePoint,
    HourInTwin,
    curve_points,
    made_curve,
)
from scorpio.studies.days import TICK_S, DaysKey
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import GPU, Cells, Found, Page, Rows, Study, table
from scorpio.twin.fleet.coarse import Curve, smoothed
from workloads.errors import MissingTraceError
from workloads.named import find_data

RATES = "traces/servegen_m-small_14d_rates_600s.csv"
TOKENS = "traces/servegen_m-small_clients.json"
MIX, SEED = "product", 0
GOAL, SHARE_GOAL = Goal(), 0.70
HOURS, HOUR_SEED = 4, 16
TUNED_DAYS = 7  # the first ones; the others are reported
QUEUES = (100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 500.0, 600.0, 700.0)
LLMD = "95.8 % at 5.93 of 8 replicas"  # as its project published it, one class
_DAY_TICKS = int(86_400 / TICK_S)


def _key() -> DaysKey:
    found = [find_data((name,)) for name in (RATES, TOKENS)]
    if None in found:
        raise MissingTraceError(f"no {RATES} and {TOKENS} in a data directory")
    rates, tokens = (str(path) for path in found)
    return DaysKey(rates, tokens, MIX, GPU)


def _hours(count: int, warm_up_s: float, part_ticks: int) -> list[HourInTwin]:
    key = _key()
    hours = int(key.days().rates.span_s // 3600)
    picked = np.random.default_rng(HOUR_SEED).choice(hours, count, replace=False)
    return [HourInTwin(key, int(hour), warm_up_s, part_ticks) for hour in sorted(picked)]


def _cells(quick: bool) -> Cells:
    key = _key()
    if quick:
        return [*curve_points(key, quick), *_hours(1, GOAL.warm_up_s, 1)]
    return [*curve_points(key), *_hours(HOURS, GOAL.warm_up_s, PART_TICKS)]


def _rows(found: Found) -> Rows:
    points = [(cell, made) for cell, made in found if isinstance(cell, CurvePoint)]
    curve = made_curve([(cell.replicas, made) for cell, made in points])
    key = points[0][0].key
    rows: Rows = [
        {"what": "curve", "replicas": cell.replicas} | _rounded(made) for cell, made in points
    ]
    for cell, made in found:
        if isinstance(cell, HourInTwin):
            rows.append({"what": "hour", "hour": cell.hour} | _hour(curve, made))
    return rows + _days(key, curve)


def _hour(curve: Curve, made: dict[str, Any]) -> dict[str, float]:
    """An hour's part in the twin, beside what the coarse model says of the same ticks."""
    even = smoothed(np.array(made["load"]), 3)[LEAD_TICKS:]
    sent, ready = np.array(made["requests"]), made["ready"]
    kept = [float(curve(np.array([x]), n)[0]) for x, n in zip(even, ready, strict=True)]
    coarse = float((sent * kept).sum() / sent.sum())
    told = {"replicas": float(np.mean(ready)), "load": float(np.mean(even / ready))}
    told |= {"twin": made["kept"], "coarse": coarse}
    return _rounded(told) | {"changes": int(np.abs(np.diff(ready)).sum()), "sent": int(sent.sum())}


def _days(key: DaysKey, curve: Curve) -> Rows:
    days = key.days()
    factor = factor_for(days, curve, GOAL.target, GOAL.max_replicas)
    scene = Scene.of(days, factor, SEED, curve, GOAL)
    tuned, told = slice(0, TUNED_DAYS * _DAY_TICKS), slice(TUNED_DAYS * _DAY_TICKS, None)
    first = scene.first(TUNED_DAYS * _DAY_TICKS)
    target, tried = tuned_queue(first, QUEUES)
    parts = {"tuned": tuned, "told": told}
    rows: Rows = [
        {"what": "setting", "factor": round(factor, 5), "queue": target,
         "filled": days.rates.filled, "requests": int(scene.requests.sum()),
         "days": round(days.rates.span_s / 86_400, 2),
         "peak_over_mean": round(float(days.window_load.max() / days.window_load.mean()), 2)},
    ]  # fmt: skip
    rows += [
        {"what": "queue", "queue": one, "kept": round(kept, 5), "replicas": round(count, 3)}
        for one, kept, count in tried
    ]
    for name, run in systems(scene, days, target).items():
        for part, ticks in parts.items():
            score = _rounded(scene.score(run, ticks))
            rows.append({"what": "system", "system": name, "part": part} | score)
    size, score = least_fixed(scene, told)
    name = f"fixed at {size}, found with hindsight"
    rows.append({"what": "system", "system": name, "part": "told"} | _rounded(score))
    return rows


def _rounded(values: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(value), 5) for name, value in values.items()}


def _of(rows: Rows, what: str) -> Rows:
    return [row for row in rows if row["what"] == what]


def _page(rows: Rows) -> Page:
    return Page("\n".join([_setting(rows), _systems(rows), _queues(rows), _checked(rows)]))


def _setting(rows: Rows) -> str:
    (row,) = _of(rows, "setting")
    most, target = GOAL.max_replicas, 100 * GOAL.target
    return f"""\
{row["days"]:g} days of ServeGen's m-small: rates of 43 clients in windows of 10 minutes, times
{row["factor"]:g}, so that {most} replicas just keep {target:g} % in the fullest window. Peak over
mean: {row["peak_over_mean"]:g}. A100 model, mix `{MIX}`, {row["requests"] / 1e6:.0f} million
requests. A replica serves {GOAL.warm_up_s:g} s after it was ordered and is paid for from the order
on; one that goes is paid for {GOAL.drain_s:g} s more, in which it drains. {row["filled"]} windows
of which the file says nothing are the line between their neighbours.
"""


def _systems(rows: Rows) -> str:
    (row,) = _of(rows, "setting")
    told = {one["system"]: one for one in _of(rows, "system") if one["part"] == "told"}
    ours = "; ".join(_verdict(name, told[name]) for name in ("promises, fluid", "promises, curve"))
    heads = ["system", "attainment, %", "worst hour, %", "replicas paid for", "of the peak's, %",
             "started a day"]  # fmt: skip
    return f"""\
## What is kept, and what does it cost?

The last {row["days"] - TUNED_DAYS:g} days. The queue length of the HPA was tuned on the first
{TUNED_DAYS}; `promises` has nothing that is tuned and learns as it goes. Goal:
{100 * GOAL.target:g} % at {100 * SHARE_GOAL:g} % or less of the GPU-hours of a fleet fixed at the
peak. {ours}. Of each attainment the error of the model, below, is to be taken off.

{table(heads, [
    [name, f"{100 * one['kept']:.2f}", f"{100 * one['worst_hour']:.1f}", f"{one['replicas']:.2f}",
     f"{100 * one['share']:.1f}", f"{one['orders']:.1f}"] for name, one in told.items()])}
- `promises, curve`: by the curve below, as `scorpio plan --autoscale` measures it.
- `promises, fluid`: what a fleet on Ray goes by; it gives up no long answer.
- `queue length`: Kubernetes' formula on requests in flight, {row["queue"]:g} for each replica,
  every 15 s; the model lets it see them at once.
- `hindsight`: knows the load until a replica that is ordered now is warm.
- llm-d has published, for its own autoscaler and traffic of one class: {LLMD}.
"""  # fmt: skip


def _verdict(name: str, row: dict[str, Any]) -> str:
    met = row["kept"] >= GOAL.target and row["share"] <= SHARE_GOAL
    said = f"{100 * row['kept']:.2f} % at {100 * row['share']:.1f} %"
    return f"`{name}` {'meets' if met else 'misses'} it: {said}"


def _queues(rows: Rows) -> str:
    return f"""\
The HPA on the first {TUNED_DAYS} days:

{table(["requests in flight for each", "attainment, %", "replicas paid for"], [
    [f"{row['queue']:g}", f"{100 * row['kept']:.2f}", f"{row['replicas']:.2f}"]
    for row in _of(rows, "queue")])}"""  # fmt: skip


def _checked(rows: Rows) -> str:
    hours = _of(rows, "hour")
    off = [100.0 * (row["coarse"] - row["twin"]) for row in hours]
    return f"""\
## How far is the coarse model off?

No request is served in the days above: a curve says what is kept. Hours were picked by seed; of
each the {PART_TICKS * TICK_S:g} s in which most replicas come and go were served by the fleet twin,
real schedulers behind the router, with {HOUR_REPLICAS} replicas at most and fuller than the rule
would have them. The coarse model is off by {np.mean(np.abs(off)):.2f} points on average, by
{max(off, key=abs):+.2f} at most.

{table(["hour", "requests", "replicas", "changes", "load of each", "twin, %", "coarse, %"], [
    [str(row["hour"]), str(row["sent"]), f"{row['replicas']:.2f}", str(row["changes"]),
     f"{row['load']:.2f}", f"{100 * row['twin']:.2f}", f"{100 * row['coarse']:.2f}"]
    for row in hours])}
## The curve

Load: engine seconds asked for per second, without the fixed part of steps. Answers of these clients
differ by orders of magnitude, and replicas shed the costliest first: few requests are not kept
where much work is not.

{table(["replicas", "load of each", "attainment, %", "in flight in each"], [
    [f"{row['replicas']:g}", f"{row['load']:.2f}", f"{100 * row['kept']:.2f}",
     f"{row['in_flight']:.0f}"] for row in _of(rows, "curve")])}"""  # fmt: skip


STUDY = Study("autoscale", QUESTIONS["autoscale"], _cells, _rows, _page)
