"""What do drafts bring where each request has as many as pay? One engine, with a drafter beside it.

Three ways to use the same drafter: none, all drafts of all requests verified (as vLLM does), and
as many of each as the policy chooses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scorpio.core.decodes import Decodes
from scorpio.core.drafts import counted_on
from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio import step_decodes
from scorpio.core.policies.scorpio.draft_choice import DraftChoice
from scorpio.core.snapshot import Snapshot
from scorpio.studies.ablation.parts import replaced
from scorpio.studies.loads import knee
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.scores import percent_good
from scorpio.studies.study import (
    OURS,
    STOCK,
    Cells,
    Found,
    Page,
    Rows,
    Study,
    engine,
    flags,
    interval,
    shown,
    table,
)
from scorpio.twin.gpu.drafter import Drafter
from scorpio.twin.run import run_twin
from workloads.load import LoadKey
from workloads.results.records import Outcome

# EAGLE's head (arXiv 2401.15077): one layer of the target, 0.24e9 parameters beside 8.03e9, and
# each pass reads the target's vocabulary, 128,256 x 4,096, once more. The chance is that of a first
# draft; requests differ, by how much is assumed.
_HEAD, _VOCABULARY, _TARGET = 0.24e9, 128_256 * 4_096, 8.03e9
DRAFTER = Drafter(
    "eagle", 2, 0.68, 0.1, (_HEAD + _VOCABULARY) / _TARGET, _HEAD / _TARGET, "arXiv 2401.15077"
)
NONE, ALL, CHOSEN, VLLM = "no drafts", "all drafts", "as many as pay", "vLLM's own (`fcfs`)"
_PLACES = (("azure-conv", "2000:2800", "six"), ("servegen-r1", "1000:1400", "product"))
_QUICK = ("azure-conv-synth", "0:60", "six")
_LOADS = (0.6, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.4)
_VLLM_LOADS = (0.6, 1.0, 1.2, 1.4, 1.6)
_OTHER_LOADS, _OTHER_DRAFTS = (1.4, 1.8), (1, 4)
_SEEDS, _FEW = (0, 1, 2), (0, 1)
_TARGET_PERCENT = 90.0


def _all(
    model: StepModel, snapshot: Snapshot, decodes: Decodes, target_s: Any, most_s: float
) -> DraftChoice | None:
    """Stands where the choice stands."""
    seen = snapshot.drafts
    if seen is None or not decodes.count:
        return None
    tokens = int(seen.at_hand[decodes.rows].sum())
    verified = np.full(len(snapshot.running), seen.most, dtype=np.int64)
    every_s = target_s * counted_on(seen.tokens()[decodes.rows][:, -1])
    return DraftChoice(verified, tokens, every_s, math.inf)


@dataclass(frozen=True, slots=True)
class Drafting:
    """One run. drafts: per request and step, K."""

    way: str
    drafts: int
    load: LoadKey

    @property
    def label(self) -> str:
        """What runs on what."""
        return f"{self.way}, K = {self.drafts}: {self.load.label}"

    def run(self) -> dict[str, Any]:
        """good: one 0 or 1 per request, in order of arrival."""
        config = engine()
        if self.way != NONE:
            config = config.drafting(DRAFTER.with_drafts(self.drafts))
        patches = [(step_decodes, "choose_drafts", _all)] if self.way == ALL else []
        policy = STOCK if self.way == VLLM else OURS
        with replaced(patches):
            made = run_twin(config, self.load.requests(), policy, self.load.seed)
        records = sorted(made.records, key=lambda record: record.index)
        refused = sum(record.outcome is Outcome.REJECTED for record in records)
        good = flags(record.good for record in records)
        tokens = sum(max(record.output_tokens - 1, 0) for record in records)
        return {
            "good": good,
            "broken": len(good) - good.count("1") - refused,
            "steps": made.steps,
            "tokens": tokens,
        }


def _cells(quick: bool) -> Cells:
    if quick:
        key = LoadKey(*_QUICK, 1.6, 0)
        return [Drafting(way, DRAFTER.drafts, key) for way in (NONE, ALL, CHOSEN, VLLM)]
    most = DRAFTER.drafts
    wanted: list[tuple[str, int, int, Sequence[float], Sequence[int]]]
    wanted = [(way, most, 0, _LOADS, _SEEDS) for way in (NONE, ALL, CHOSEN)]
    wanted += [(VLLM, most, 0, _VLLM_LOADS, _FEW)]
    wanted += [(way, k, 0, _OTHER_LOADS, _FEW) for way in (ALL, CHOSEN) for k in _OTHER_DRAFTS]
    wanted += [(way, most, 1, (1.0, 1.6), _FEW) for way in (NONE, ALL, CHOSEN)]
    return [
        Drafting(way, drafts, LoadKey(*_PLACES[place], scale, seed))
        for way, drafts, place, scales, seeds in wanted
        for scale in scales
        for seed in seeds
    ]


def _rows(found: Found) -> Rows:
    made: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for cell, told in found:
        assert isinstance(cell, Drafting)
        load = cell.load
        made[cell.way, cell.drafts, load.trace, load.mix, load.rate_scale].append(told)
    return [
        {
            "way": way,
            "drafts": drafts,
            "trace": trace,
            "mix": mix,
            "load": scale,
            "attainment": interval([percent_good(run) for run in runs]),
            "each": [round(float(np.mean(percent_good(run))), 4) for run in runs],
            "broken": round(100.0 * _share(runs, "broken"), 3),
            "steps_per_1000_tokens": round(
                1000.0 * sum(run["steps"] for run in runs) / sum(run["tokens"] for run in runs), 2
            ),
        }
        for (way, drafts, trace, mix, scale), runs in made.items()
    ]


def _share(runs: list[dict[str, Any]], name: str) -> float:
    return float(sum(run[name] for run in runs) / sum(len(run["good"]) for run in runs))


def _attainments(rows: Rows) -> str:
    loads = sorted({row["load"] for row in rows})
    lines = []
    for way, drafts in dict.fromkeys((row["way"], row["drafts"]) for row in rows):
        mine = {row["load"]: row for row in rows if (row["way"], row["drafts"]) == (way, drafts)}
        name = way if way == NONE else f"{way}, K = {drafts}"
        cells = [shown(mine[load]["attainment"]) if load in mine else "–" for load in loads]
        lines.append([name, *cells])
    return table(["scheduling and drafts", *(f"x{load:g}" for load in loads)], lines)


def _knees(rows: Rows) -> str:
    """Load at the target, by seed, and how much more it is than with the other ways."""
    found: dict[str, list[float]] = {}
    for way in (NONE, VLLM, ALL, CHOSEN):
        mine = [row for row in rows if row["way"] == way and row["drafts"] == DRAFTER.drafts]
        runs = min(len(row["each"]) for row in mine)
        points = [[(row["load"], row["each"][run]) for row in mine] for run in range(runs)]
        found[way] = [knee(sorted(one), _TARGET_PERCENT) or math.nan for one in points]
    lines = []
    for way, loads in found.items():
        more = [ours / theirs for ours, theirs in zip(found[CHOSEN], loads, strict=False)]
        told = f"{np.mean(more):.2f} ({min(more):.2f} to {max(more):.2f})"
        lines.append([way, f"x{np.mean(loads):.2f}", "" if way == CHOSEN else told])
    return table(
        [
            "scheduling and drafts",
            f"{_TARGET_PERCENT:g} % kept up to",
            "times that: as many as pay (of seeds)",
        ],
        lines,
    )


def _broken(rows: Rows) -> str:
    return table(
        ["scheduling and drafts", "load", "broken, %", "steps per 1,000 tokens"],
        [
            [
                f"{row['way']}, K = {row['drafts']}" if row["way"] != NONE else NONE,
                f"x{row['load']:g}",
                f"{row['broken']:.2f}",
                f"{row['steps_per_1000_tokens']:.1f}",
            ]
            for row in rows
            if row["load"] in (1.2, 1.8)
        ],
    )


def _page(rows: Rows) -> Page:
    main = [row for row in rows if row["trace"] == rows[0]["trace"]]
    other = [row for row in rows if row["trace"] != rows[0]["trace"]]
    text = f"""\
In the twin: vLLM's real scheduler in virtual time, Llama-3.1-8B on the A100 model with a drafter
beside it. Its cost is arithmetic, from the sizes of EAGLE's head ({DRAFTER.source}): each draft
makes the fixed part of a step {100 * DRAFTER.pass_share:.1f} % longer, verified or not, and each
token takes {100 * DRAFTER.token_share:.0f} % longer. A draft is accepted with a chance of
{DRAFTER.chance:g}, with a standard deviation of {DRAFTER.spread:g} between requests.
Policies are told none of these: the latency profile is taken with the drafter, and acceptance is
learned from what is seen. Attainment in %, counted in accepted tokens; {rows[0]["trace"]}, mix
`{rows[0]["mix"]}`.

{_attainments(main)}
`no drafts` has no drafter, and none of its cost. `all drafts` is the same policy without a choice.
"""
    if any(row["load"] == _LOADS[-1] for row in main):
        text += f"""
## How much load can the engine carry?

K = {DRAFTER.drafts}. On a straight line between the loads measured, for each seed.

{_knees(main)}
## Which promises are broken?

Admitted, and late all the same, in % of all requests.

{_broken(main)}"""
    if other:
        text += f"""
## On another load

{other[0]["trace"]}, mix `{other[0]["mix"]}`.

{_attainments(other)}"""
    return Page(text)


STUDY = Study("drafts", QUESTIONS["drafts"], _cells, _rows, _page)
