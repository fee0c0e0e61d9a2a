"""What is it worth to know how long answers will be, and where?

The same requests on engines with little and with much room for KV, and policies that are told
nothing, what a trained predictor would say, noisy lengths, or the true ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import (
    CARD,
    GPU,
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
from scorpio.twin.config import TwinConfig
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.run import run_twin
from workloads.load import LoadKey

RIVAL = "qoserve"
HINTS: Mapping[str, str] = {
    "none": "nothing",
    "trained": "a model of the trained predictor",
    "0.6": "the truth with a log error of 0.6",
    "oracle": "the truth",
}
USUAL = "0.6"  # what all other pages tell
_NO_KV_RULE = {"kv_share": 10.0, "kv_dear_share": 10.0}
_SEEDS = (100, 101)


@dataclass(frozen=True, slots=True)
class Place:
    """An engine and what is asked of it, at several loads."""

    says: str
    trace: str
    rows: str
    mix: str
    loads: tuple[float, ...]
    blocks: int = 0  # of KV; 0: as many as the GPU has
    gpu: str = GPU

    def config(self, hint: str, options: Mapping[str, float]) -> TwinConfig:
        """The engine, what policies are told, and the options of ours."""
        config = engine(self.gpu)
        blocks = self.blocks or config.gpu.kv_blocks
        return replace(
            config,
            engine=replace(config.engine, num_blocks=blocks),
            lengths=LengthHint.parse(hint),
            policy_options={OURS: dict(options)},
        )


PLACES: Mapping[str, Place] = {
    "24 GB": Place("a 24 GB card, 41,408 tokens of KV; answers of 760 tokens", "servegen-r1",
                   "1000:1400", "product", (0.2, 0.6, 1.0), gpu=CARD),
    "A100, 40k": Place("an A100 with 40,000 tokens of KV; the same requests", "servegen-r1",
                       "1000:1400", "product", (0.6, 1.0, 1.6), blocks=2500),
    "A100": Place("an A100 with 320,000 tokens of KV; the window of the other pages", "azure-conv",
                  "2000:2800", "six", (2.4,)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """One system at one place that is told so much. kv_rule: ours, with its rule for KV."""

    place: str
    scale: float
    seed: int
    system: str
    hint: str
    kv_rule: bool = True

    @property
    def label(self) -> str:
        """All of it."""
        rule = "" if self.kv_rule else ", without the KV rule"
        where = f"{self.place} x{self.scale:g} seed {self.seed}"
        return f"{self.system}{rule} on {where}, lengths {self.hint}"

    def run(self) -> dict[str, Any]:
        """good: one 0 or 1 per request. broken: let in and not kept."""
        place = PLACES[self.place]
        load = LoadKey(place.trace, place.rows, place.mix, self.scale, self.seed)
        config = place.config(self.hint, {} if self.kv_rule else _NO_KV_RULE)
        made = run_twin(config, load.requests(), self.system, self.seed)
        records = sorted(made.records, key=lambda record: record.index)
        return {
            "good": flags(record.good for record in records),
            "broken": flags(not r.good and r.reject_reason is None for r in records),
            "preemptions": made.preemptions,
        }


def _cells(quick: bool) -> Cells:
    places = list(PLACES)[:1] if quick else list(PLACES)
    systems = [(OURS, hint, True) for hint in HINTS]
    systems += [(OURS, USUAL, False), (RIVAL, USUAL, True)]
    return [
        Told(place, scale, seed, *system)
        for place in places
        for scale in (PLACES[place].loads[:1] if quick else PLACES[place].loads)
        for seed in (_SEEDS[:1] if quick else _SEEDS)
        for system in systems
    ]


def _rows(found: Found) -> Rows:
    runs: dict[tuple[str, float, str, str, bool], list[dict[str, Any]]] = defaultdict(list)
    for told, made in found:
        assert isinstance(told, Told)
        runs[told.place, told.scale, told.system, told.hint, told.kv_rule].append(made)
    return [
        {
            "place": place,
            "load": scale,
            "system": system,
            "lengths": hint,
            "kv_rule": rule,
            "attainment": interval([percents(run["good"]) for run in made]),
            "broken": round(float(np.mean([np.mean(percents(r["broken"])) for r in made])), 2),
            "preemptions": round(
                float(np.mean([100.0 * r["preemptions"] / len(r["good"]) for r in made])), 1
            ),
        }
        for (place, scale, system, hint, rule), made in runs.items()
    ]


def _name(row: Mapping[str, Any]) -> str:
    if row["system"] != OURS:
        return f"`{row['system']}`"
    told = f"`{OURS}`, lengths: {HINTS[row['lengths']]}"
    return told if row["kv_rule"] else f"{told}; without its rule for KV"


def _page(rows: Rows) -> Page:
    text = """\
Predicted lengths decide most where KV is what all lack. There `scorpio` admits a request only while
the KV that answers need at their peak is expected to fit, and while more KV is asked for than there
is, those that would hold most of it for longest are the last to get it. Where there is room for KV,
lengths only say which request costs most, and knowing them all is worth little. Attainment in %,
95 % interval over requests and two seeds.
"""
    for place in dict.fromkeys(row["place"] for row in rows):
        here = [row for row in rows if row["place"] == place]
        loads = list(dict.fromkeys(row["load"] for row in here))
        names = list(dict.fromkeys(_name(row) for row in here))
        cells = {(_name(row), row["load"]): row for row in here}
        text += f"\n## {place}: {PLACES[place].says}\n\n"
        text += table(
            ["attainment", *(f"x{load:g}" for load in loads)],
            [[name, *(shown(cells[name, x]["attainment"]) for x in loads)] for name in names],
        )
        text += "\n" + table(
            ["let in and broken, % / preemptions per 100", *(f"x{load:g}" for load in loads)],
            [[name, *(_costs(cells[name, load]) for load in loads)] for name in names],
        )
    return Page(text)


def _costs(row: Mapping[str, Any]) -> str:
    return f"{row['broken']:.1f} / {row['preemptions']:.1f}"


STUDY = Study("lengths", QUESTIONS["lengths"], _cells, _rows, _page)
