"""What does each part of `scorpio` bring? Each is switched off alone, on the same requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scorpio.studies.ablation.parts import PARTS, Part, replaced
from scorpio.studies.ablation.scenes import SCENES
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import (
    OURS,
    Cells,
    Found,
    Page,
    Rows,
    Study,
    engine,
    flags,
    interval,
    percents,
    shown,
    table,
)
from scorpio.twin.run import run_twin
from workloads.load import LoadKey


@dataclass(frozen=True, slots=True)
class Run:
    """`scorpio` without a part ("" = with all) in a scene."""

    load: LoadKey
    scene: str
    part: str = ""

    @property
    def label(self) -> str:
        """What is off, and where."""
        return f"{self.scene}: without {self.part or 'nothing'}"

    def run(self) -> list[str]:
        """[promise kept, let in but not kept]: a 0 or 1 per request each."""
        part = PARTS.get(self.part, Part())
        own = replace(engine(), policy_options={OURS: part.options})
        own = SCENES[self.scene].unusual(own)
        with replaced(part.patches):
            made = run_twin(own, self.load.requests(), OURS, self.load.seed)
        broken = [not r.good and r.reject_reason is None for r in made.records]
        return [flags(record.good for record in made.records), flags(broken)]


def _cells(quick: bool) -> Cells:
    most = (3, 1) if quick else (None, None)
    parts, scenes = ["", *PARTS][: most[0]], list(SCENES)[: most[1]]
    return [
        Run(SCENES[scene].load(seed, quick), scene, part)
        for scene in scenes
        for part in parts
        for seed in range(1 if quick else SCENES[scene].seeds)
    ]


def _rows(found: Found) -> Rows:
    runs: dict[tuple[str, str], list[list[list[float]]]] = {}  # [seed][kept, broken][request]
    for run, both in found:
        assert isinstance(run, Run)
        runs.setdefault((run.part, run.scene), []).append([percents(kept) for kept in both])
    rows: Rows = []
    for (part, scene), made in runs.items():
        row: dict[str, Any] = {"part": part, "scene": scene}
        for at, what in enumerate(("kept", "broken")):
            pairs = zip(made, runs["", scene], strict=True)
            row[what] = interval(
                [
                    np.subtract(own[at], whole[at]).tolist() if part else own[at]
                    for own, whole in pairs
                ]
            )
        rows.append(row)
    return rows


def _page(rows: Rows) -> Page:
    scenes = list(dict.fromkeys(row["scene"] for row in rows))
    parts = list(dict.fromkeys(row["part"] for row in rows))
    cells = {(row["part"], row["scene"]): row for row in rows}

    def lines(what: str) -> str:
        own = [
            [part or "nothing (%)", *(shown(cells[part, s][what], sign=bool(part)) for s in scenes)]
            for part in parts
        ]
        return table(["without", *scenes], own)

    said = "\n".join(f"- **{scene}**: {SCENES[scene].says}" for scene in scenes)
    return Page(f"""\
Each part of the policy `scorpio` is switched off alone, on the same requests and noise. First line:
with all parts, in % of all requests sent. Below: what changes without the part, in points, with a
95 % interval over paired requests; bold where it excludes zero. Reference window and A100 model
where no other is named; one seed, unless the scene says more. Four parts are for requests made to
hurt: what they bring is in [robustness](robustness.md), "SLOs made to hurt". What the stock path
brings is in [light load](light_load.md).

{said}

## Promises kept

{lines("kept")}

## Requests let in, but not served as promised

{lines("broken")}""")


STUDY = Study("ablation", QUESTIONS["ablation"], _cells, _rows, _page)
