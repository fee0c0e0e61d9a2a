"""Is Scorpio ever worse than a rival? Other traces and mixes, none of them looked at while tuning.

Every trace x mix x load, each system on the same requests. Attainment of Scorpio beside the best of
the rivals, whichever that is.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from scorpio.studies.questions import QUESTIONS
from scorpio.studies.scores import Score, percent_good
from scorpio.studies.study import OURS, Cells, Found, Page, Rows, Study, table
from workloads.load import LoadKey
from workloads.named import load_workload

RIVALS = ("fcfs", "fcfs-tuned", "qoserve", "mooncake", "priority-edf")
WINDOWS = {
    "azure-conv": "12000:12600",  # not the window of the other pages
    "mooncake": "1000:1200",
    "servegen-r1": "1000:1800",  # answers last 25 s: a shorter window is all start-up
    "sharegpt-poisson": "0:600",
    "gamma-cv5": "0:600",
}
MIXES = ("six", "product")
LOADS = (1.6,)
TOLERANCE = 0.5  # points


def _cells(quick: bool) -> Cells:
    if quick:
        return [Score(s, LoadKey("gamma-cv5", "0:60", "six", 1.6, 0)) for s in (OURS, *RIVALS)]
    load_workload("servegen-r1", "0:1")  # raises where the published traces are not
    return [
        Score(system, LoadKey(trace, rows, mix, scale, 0))
        for trace, rows in WINDOWS.items()
        for mix in MIXES
        for scale in LOADS
        for system in (OURS, *RIVALS)
    ]


def _rows(found: Found) -> Rows:
    cells: dict[tuple[str, str, float], dict[str, float]] = defaultdict(dict)
    for score, made in found:
        assert isinstance(score, Score)
        load = score.load
        attained = round(float(np.mean(percent_good(made))), 2)
        cells[load.trace, load.mix, load.rate_scale][score.system] = attained
    rows: Rows = []
    for (trace, mix, scale), shares in cells.items():
        best = max((share, system) for system, share in shares.items() if system != OURS)
        rows.append(
            {
                "trace": trace,
                "mix": mix,
                "load": scale,
                "ours": shares[OURS],
                "rival": best[1],
                "rivals": best[0],
                "margin": round(shares[OURS] - best[0], 2),
            }
        )
    return rows


def _page(rows: Rows) -> Page:
    margins = [row["margin"] for row in rows]
    worse = sum(margin < -TOLERANCE for margin in margins)
    lines = [
        [
            row["trace"], row["mix"], f"x{row['load']:g}", f"{row['ours']:.1f}",
            f"{row['rivals']:.1f} (`{row['rival']}`)", f"{row['margin']:+.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    return Page(f"""\
{len(rows)} cells: in {worse} of them Scorpio is more than {TOLERANCE:g} points behind the best
rival of that very cell. The difference is {min(margins):+.1f} points at least,
{np.median(margins):+.1f} in the middle, {max(margins):+.1f} at most. One seed for each cell, 200
to 800 requests: a point or two is chance. Rivals: {", ".join(f"`{name}`" for name in RIVALS)}.
Attainment in %, A100 model.

{table(["trace", "mix", "load", "Scorpio", "best rival", "difference"], lines)}""")


STUDY = Study("grid", QUESTIONS["grid"], _cells, _rows, _page)
