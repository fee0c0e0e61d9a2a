"""Is Scorpio stock vLLM when there is room? Both on the same requests and the same step noise.

A ratio is Scorpio's mean over stock's, its 95 % interval that of the paired differences over
requests and seeds (stock's mean taken as known). Times are of the requests that both finished.
A second table: the same without the stock path, so that what that path brings is seen.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from scorpio.studies.questions import QUESTIONS
from scorpio.studies.scores import Score, percent_good
from scorpio.studies.study import (
    OURS,
    STOCK,
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

LOADS = (0.2, 0.35, 0.45, 0.5)
SEEDS = (0, 1)
TIMES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}
Run = dict[str, Any]
Options = tuple[tuple[str, float], ...]
NO_STOCK_PATH: Options = (("light_share", 0.0),)


def _cells(quick: bool) -> Cells:
    loads, seeds = ((0.2,), (0,)) if quick else (LOADS, SEEDS)
    return [
        Score(system, reference(scale, seed, quick), times=True, options=options)
        for scale in loads
        for seed in seeds
        for system, options in ((OURS, ()), (OURS, NO_STOCK_PATH), (STOCK, ()))
    ]


def _rows(found: Found) -> Rows:
    ours: dict[tuple[float, Options], list[Run]] = defaultdict(list)
    stock: dict[float, list[Run]] = defaultdict(list)
    for score, made in found:
        assert isinstance(score, Score)
        load = score.load.rate_scale
        (stock[load] if score.system == STOCK else ours[load, score.options]).append(made)
    rows: Rows = []
    for (scale, options), mine in ours.items():
        pairs = list(zip(mine, stock[scale], strict=True))
        better = [np.subtract(percent_good(a), percent_good(b)).tolist() for a, b in pairs]
        speeds = [a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs]
        rows.append(
            {
                "load": scale,
                "stock_path": not options,
                "attainment": round(
                    float(np.mean([np.mean(percent_good(a)) for a, _ in pairs])), 2
                ),
                "points": interval(better),
                **{name: _ratio(pairs, name) for name in TIMES},
                "tokens_per_s": [round(v, 4) for v in (np.mean(speeds), min(speeds), max(speeds))],
                "stock_share": round(float(np.mean([a["stock_share"] for a, _ in pairs])), 3),
                "refused": sum(a["refused"] for a, _ in pairs),
            }
        )
    return rows


def _ratio(pairs: list[tuple[Run, Run]], name: str) -> list[float]:
    both = [
        [(x, y) for x, y in zip(a[name], b[name], strict=True) if x is not None and y is not None]
        for a, b in pairs
    ]
    base_s = float(np.mean([np.mean([y for _, y in run]) for run in both]))
    off = interval([[(x - y) / base_s for x, y in run] for run in both])
    return [round(1.0 + value, 4) for value in off]


def _page(rows: Rows) -> Page:
    heads = ["load", "attainment %", "points over stock", *TIMES.values(), "tokens/s",
             "steps left to stock %", "refused"]  # fmt: skip

    def lines(stock_path: bool) -> str:
        own = [row for row in rows if row["stock_path"] == stock_path]
        return table(heads, [_line(row) for row in own])

    return Page(f"""\
Ratios are Scorpio over stock vLLM, 1 = the same, with a 95 % interval (tokens/s: least and most of
the seeds). Reference window, two seeds, A100 model.

{lines(True)}
## Without the stock path (`light_share = 0`)

{lines(False)}""")


def _line(row: dict[str, Any]) -> list[str]:
    return [
            f"x{row['load']:g}", f"{row['attainment']:.1f}", shown(row["points"], 2, sign=True),
            *(shown(row[name], 4) for name in (*TIMES, "tokens_per_s")),
            f"{100.0 * row['stock_share']:.1f}", str(row["refused"]),
    ]  # fmt: skip


STUDY = Study("light_load", QUESTIONS["light_load"], _cells, _rows, _page)
