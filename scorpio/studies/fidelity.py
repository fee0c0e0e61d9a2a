"""How near is the twin to a real engine? Against per-request logs of vLLM on real GPUs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import Cells, Found, Page, Rows, Study, table
from scorpio.twin.fidelity.log_report import built_in, examined, fit_log
from scorpio.twin.fidelity.logs import read_log
from scorpio.twin.fidelity.side_by_side import SLO_PAIRS
from workloads.errors import MissingTraceError
from workloads.named import DATA_VARIABLE, find_data

LOGS = {
    "Llama-3.1-8B on an RTX PRO 6000": "vllm_rtxpro6000_llama31_8b",
    "Qwen3-32B on two RTX PRO 6000": "vllm_rtxpro6000x2_qwen3_32b",
}
FITTED_SHARE = 1.0 / 3.0
_MOST_FIT_S = 60.0
_GOALS = {"mean": 0.03, "p90": 0.05, "p99": 0.05, "attained": 0.03}  # p50 has none of its own


@dataclass(frozen=True, slots=True)
class Against:
    """The twin against one log, fitted on its first part. stated: its meta file is read."""

    log: str
    stated: bool

    @property
    def label(self) -> str:
        """Log, and whether its limits are known."""
        return f"fidelity: {self.log}{'' if self.stated else ', limits not stated'}"

    def run(self) -> dict[str, object]:
        """What `scorpio calibrate LOG` finds, and how long it looks for it."""
        log = read_log(_file(self.log))
        if not self.stated:
            log = replace(log, limits={})
        began_s = time.process_time()
        found, engine = fit_log(log, built_in(None), "auto", FITTED_SHARE)
        fit_s = time.process_time() - began_s
        return {
            **examined(log, found, engine).to_dict(),
            "log": self.log,
            "stated": self.stated,
            "model": f"{found.base}, its steps {found.factors}",
            "max_num_seqs": engine.max_num_seqs,
            "fit_cpu_s": round(fit_s, 1),
        }


def _file(log: str) -> Path:
    name = f"latency/{log}_requests.jsonl"
    path = find_data((name,))
    if path is None:
        raise MissingTraceError(f"needs {name} in ${DATA_VARIABLE}")
    return path


def _cells(quick: bool) -> Cells:
    for log in LOGS.values():
        _file(log)
    return [Against(log, stated) for log in LOGS.values() for stated in (True, False)]


def _rows(found: Found) -> Rows:
    return [case for _, case in found]


def _goal(metric: str) -> float | None:
    return next((goal for word, goal in _GOALS.items() if word in metric), None)


def _missed(case: Mapping[str, Any]) -> list[str]:
    """The rows beyond their goal, and the time that the fit took."""
    goals = ((row, _goal(row["metric"])) for row in case["rows"])
    missed = [r["metric"] for r, goal in goals if goal is not None and abs(r["error"]) > goal]
    return [*missed, *(["time of the fit"] if case["fit_cpu_s"] > _MOST_FIT_S else [])]


def _line(row: Mapping[str, Any]) -> list[str]:
    share, goal = row["around"] is not None, _goal(row["metric"])
    unit = "points" if share else "%"
    real, twin = (f"{100 * v:.1f} %" if share else f"{v:.1f}" for v in (row["real"], row["twin"]))
    around = " to ".join(f"{100 * v:.1f} %" for v in row["around"]) if share else ""
    allowed = "" if goal is None else f"{100 * goal:.0f} {unit}"
    if goal is not None and abs(row["error"]) > goal:
        allowed += ", **missed**"
    return [row["metric"], real, twin, f"{100 * row['error']:+.1f} {unit}", allowed, around]


def _blind(cases: Sequence[Mapping[str, Any]]) -> str:
    """Where the real engine met none of the SLOs that are the same for all logs."""
    met_none = [
        name.split(" on ")[0]
        for name, log in LOGS.items()
        for case in cases
        if case["log"] == log and case["stated"]
        if not any(row["real"] for row in case["rows"] if _is_common(row["metric"]))
    ]
    if not met_none:
        return ""
    said = f"met none of the other {len(SLO_PAIRS)} SLOs at this load: they say nothing of it."
    return "".join(f"{name} {said}\n" for name in met_none)


def _is_common(metric: str) -> bool:
    return metric in [f"attained {ttft_s:g} s / {tpot_ms:g} ms" for ttft_s, tpot_ms in SLO_PAIRS]


def _summary(cases: Sequence[Mapping[str, Any]]) -> str:
    """A line for each log, with its limits known and not."""
    lines = []
    for name, log in LOGS.items():
        for case in (c for c in cases if c["log"] == log):
            times = [abs(row["error"]) for row in case["rows"] if row["around"] is None]
            shares = [abs(row["error"]) for row in case["rows"] if row["around"] is not None]
            missed = _missed(case)
            lines.append([
                name if case["stated"] else f"{name}, meta file not read",
                f"{100 * max(times):.1f} %", f"{100 * max(shares):.1f} points",
                "; ".join(missed) if missed else "none", f"{case['fit_cpu_s']:.0f} s",
            ])  # fmt: skip
    heads = [
        "log",
        "largest error of a time",
        "of attainment",
        "goals missed",
        "fitted in (one core)",
    ]
    return table(heads, lines)


def _page(rows: Rows) -> Page:
    heads = ["", "real engine", "twin", "error", "goal", "real, SLOs 1 % tighter and looser"]
    parts = []
    for name, log in LOGS.items():
        case = next(c for c in rows if c["log"] == log and c["stated"])
        lines = table(heads, [_line(row) for row in case["rows"]])
        parts.append(f"## {name}\n\nFrom {case['model']}: {case['title']}.\n\n{lines}")
    text = f"""\
Every public log that we have: vLLM 0.19, 300 requests at 10 a second. As `scorpio calibrate LOG`
does it: the speed of steps is fitted on the first third of a log, from whichever built-in GPU model
is the nearest, and tested on the other two thirds, with the same arrivals and lengths. Limits of
the engine are those of the log's meta file. To see what that file is worth, each log is fitted once
more without it; limits are then read off the log itself.

Goals: means within 3 %, p90 and p99 within 5 %, attainment within 3 points, a fit within \
{_MOST_FIT_S:.0f} s.

{_summary(rows)}
The last two SLOs of each table are put amid the crowd on purpose (its own p90 of TTFT; p50 and p90
of TPOT). There attainment falls off a cliff: the last column says how far the real engine's own
share moves when the SLOs are 1 % tighter or looser. A twin that is 1 % off in time is no nearer.
{_blind(rows)}
"""
    return Page(text + "\n".join(parts))


STUDY = Study("fidelity", QUESTIONS["fidelity"], _cells, _rows, _page)
