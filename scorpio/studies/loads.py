"""Which system keeps its promises as the load grows, and how much load can each carry?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scorpio.studies.questions import QUESTIONS
from scorpio.studies.scores import Score, percent_good
from scorpio.studies.study import (
    OURS,
    STOCK,
    TUNED,
    Cells,
    Found,
    Page,
    Rows,
    Study,
    interval,
    reference,
    shown,
    table,
)
from workloads.report.figure_style import (
    finish,
    line_options,
    new_figure,
    percent_axis,
    styled,
)
from workloads.results.policy_order import policy_order

BEST_RIVAL = "qoserve"
MAIN = (STOCK, TUNED, "scorpio-paper", BEST_RIVAL, OURS)
NEWEST = ("qoserve+reject", "fairbatching", "slidingserve")
OTHERS = ("fcfs+queue-cap", "fcfs+adaptive-long-prefill", "priority-edf", "sjf", "mooncake",
          *NEWEST)  # fmt: skip
SWEEP = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 2.0, 2.4)
SHOWN = (0.8, 1.2, 1.6, 2.4)  # in tables; all systems are run at these
SEEDS = (0, 1, 2)  # at the loads shown; elsewhere the first, and others have two
TARGETS = (99.0, 90.0)


def _cells(quick: bool) -> Cells:
    if quick:
        return [Score(s, reference(x, 0, quick)) for s in (*MAIN, *OTHERS) for x in (0.8, 1.6)]
    wanted = ((MAIN, SHOWN, SEEDS), (MAIN, tuple(set(SWEEP) - set(SHOWN)), SEEDS[:1]),
              (OTHERS, SHOWN, SEEDS[:2]))  # fmt: skip
    return [
        Score(system, reference(scale, seed))
        for systems, scales, seeds in wanted
        for system in systems
        for scale in sorted(scales)
        for seed in seeds
    ]


def _rows(found: Found) -> Rows:
    runs: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for score, made in found:
        assert isinstance(score, Score)
        runs.setdefault((score.system, score.load.rate_scale), []).append(made)
    return [
        {
            "system": system,
            "load": scale,
            "offered_rps": round(float(np.mean([r["offered_rps"] for r in made])), 3),
            "attainment": interval([percent_good(r) for r in made]),
            "refused_share": round(
                float(np.mean([r["refused"] / len(r["good"]) for r in made])), 4
            ),
            "runs": len(made),
            "requests": len(made[0]["good"]),
        }
        for (system, scale), made in sorted(
            runs.items(), key=lambda item: (policy_order(item[0][0]), item[0][1])
        )
    ]


def knee(points: Sequence[tuple[float, float]], target: float) -> float | None:
    """The largest load up to which attainment stays at `target`: on a straight line between the
    loads measured. None: not even the least of them; inf: all of them.

    points: (load, attainment in percent), by load.
    """
    for number, (load, attained) in enumerate(points):
        if attained < target:
            if number == 0:
                return None
            before, above = points[number - 1]
            return before + (load - before) * (above - target) / (above - attained)
    return float("inf")


def _knees(rows: Rows) -> str:
    lines = []
    for system in MAIN:
        mine = [row for row in rows if row["system"] == system]
        points = [(row["load"], row["attainment"][0]) for row in mine]
        cells = []
        for target in TARGETS:
            load = knee(points, target)
            if load is None:
                cells.append(f"below x{points[0][0]:g}")
            elif load == float("inf"):
                cells.append(f"above x{points[-1][0]:g}")
            else:
                rate_rps = mine[0]["offered_rps"] / mine[0]["load"]
                cells.append(f"x{load:.2f} ({load * rate_rps:.2f} requests/s)")
        lines.append([f"`{system}`", *cells])
    return table(["system", *(f"{target:g} % kept up to" for target in TARGETS)], lines)


def _attainments(rows: Rows, systems: Sequence[str]) -> str:
    by_load = {row["load"]: row["offered_rps"] for row in rows if row["load"] in SHOWN}
    heads = ["system", *(f"x{load:g} ({rps:.2f} requests/s)" for load, rps in by_load.items())]
    lines = []
    for system in systems:
        mine = {r["load"]: r["attainment"] for r in rows if r["system"] == system}
        lines.append([f"`{system}`", *(shown(mine.get(load)) for load in by_load)])
    return table(heads, lines)


def _chart(rows: Rows) -> bytes:
    names = {
        STOCK: "vLLM",
        TUNED: "vLLM, tuned",
        BEST_RIVAL: "best rival (QoServe)",
        OURS: "Scorpio",
    }
    with styled():
        figure = new_figure(4.4)
        axis = figure.subplots()
        for system in names:
            mine = [row for row in rows if row["system"] == system]
            rates = [row["offered_rps"] for row in mine]
            means, lows, highs = (
                np.array([row["attainment"][part] / 100.0 for row in mine]) for part in range(3)
            )
            axis.plot(rates, means, label=names[system], **line_options(system))
            axis.fill_between(
                rates, lows, highs, alpha=0.1, lw=0, color=line_options(system)["color"]
            )
        percent_axis(axis)
        axis.set_title("Promises kept as load grows (simulated on the real vLLM scheduler)")
        axis.set_xlabel("offered load (requests per second, one A100 model, Llama-3.1-8B)")
        axis.set_ylabel("share of all requests sent")
        figure.legend(loc="outside lower center", ncols=len(names), handlelength=3.2)
        return finish(figure, "attainment", "").png


def _page(rows: Rows) -> Page:
    systems = list(dict.fromkeys(row["system"] for row in rows))
    first = rows[0]
    text = f"""\
![promises kept against load](attainment.png)

Attainment in %: requests that finished within their TTFT and TPOT SLO, of all sent. Mean over seeds
of {first["requests"]} requests (three of the systems of the chart, two of the others), with a 95 %
interval over requests and seeds; in the chart loads between those of the table have one seed. Azure
conversation trace, rows 2000 to 2800, mix `six`; the twin: vLLM's real scheduler in virtual time,
Llama-3.1-8B on the A100 model.

{_attainments(rows, systems)}
## How much load can each carry?

The largest load at which this share of the promises is kept, on a straight line between the loads
measured.

{_knees(rows)}"""
    blocks = {("README.md", "attainment"): _attainments(rows, MAIN)}
    return Page(text, {"attainment.png": _chart(rows)}, blocks)


STUDY = Study("loads", QUESTIONS["loads"], _cells, _rows, _page)
