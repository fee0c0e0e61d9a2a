"""What does each part of `scorpio` bring? Every part is switched off alone, on the same requests.

Parts that are options are set to their "off" value; the others are replaced inside the run by what
would stand there without them (`PARTS`), so that the policy carries no switches for this table's
sake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.policies.scorpio import policy as policy_module
from scorpio.core.policies.scorpio import shed, step_decodes
from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import PrefillJobs, Turn, prefill_jobs
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.learn.speed import EngineSpeed
from scorpio.core.snapshot import Snapshot
from scorpio.studies.lengths import CARD
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
    reference,
    shown,
    table,
)
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.run import run_twin
from workloads.load import LoadKey

Patch = tuple[object, str, object]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a part may matter: a load of the reference window or another, and what is unusual."""

    says: str
    scale: float
    mix: str = "six"
    unusual: Callable[[TwinConfig], TwinConfig] = lambda config: config
    window: tuple[str, str] | None = None  # trace and rows

    def load(self, quick: bool) -> LoadKey:
        """Its requests."""
        load = replace(reference(self.scale, 0, quick), mix=self.mix)
        trace, rows = self.window or (load.trace, load.rows)
        return replace(load, trace=trace, rows=rows)


def _wrong_lengths(config: TwinConfig) -> TwinConfig:
    return replace(config, lengths=LengthHint(None, "adversarial"))


def _scatter(config: TwinConfig) -> TwinConfig:
    return replace(config, noise=NoiseSpec(sigma=0.15, stall_probability=0.01, stall_mean_s=0.05))


def _fast_profile(config: TwinConfig) -> TwinConfig:
    return replace(config, profile_bias=0.85)


def _long_steps(config: TwinConfig) -> TwinConfig:
    return replace(config, engine=replace(config.engine, max_num_batched_tokens=8192))


def _little_kv(config: TwinConfig) -> TwinConfig:
    return replace(config, gpu=CARD, engine=replace(config.engine, num_blocks=CARD.kv_blocks))


SCENES: Mapping[str, Scene] = {
    "room": Scene("load x0.8: nearly all can be kept", 0.8),
    "full": Scene("load x1.6", 1.6),
    "over": Scene("load x2.4", 2.4),
    "lengths": Scene("load x2.4, and predicted lengths that mislead", 2.4, "six", _wrong_lengths),
    "scatter": Scene("load x1.6, steps scatter by 15 %, 1 in 100 stalls", 1.6, "six", _scatter),
    "profile": Scene("load x1.6, and a profile that is 15 % too fast", 1.6, "six", _fast_profile),
    "long steps": Scene("load x1.2 of `product`, 8,192 tokens a step", 1.2, "product", _long_steps),
    "little KV": Scene("load x1.0 of `servegen-r1`, `product`, on a card of 24 GB", 1.0, "product",
                       _little_kv, ("servegen-r1", "1000:1800")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A part switched off: options of the policy, and names replaced for the length of a run."""

    options: Mapping[str, float] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True, slots=True)
class _Reordered(PrefillJobs):
    """The same jobs, judged in order of deadline, but served in another one."""

    key: Callable[[Turn], Any]

    def turns(self, gone: IntArray, pay: bool, passed: BoolArray | None = None) -> Iterator[Turn]:
        return iter(sorted(PrefillJobs.turns(self, gone, pay, passed), key=self.key))


def _turns_by(key: Callable[[Snapshot, Turn], Any]) -> Patch:
    def jobs(step: StepContext, *rest: Any) -> PrefillJobs:
        made = prefill_jobs(step, *rest)
        columns = {column.name: getattr(made, column.name) for column in fields(made)}
        return _Reordered(**columns, key=partial(key, step.snapshot))

    return policy_module, "prefill_jobs", jobs


def _begun_stay(*args: Any) -> PrefillJobs:
    made = prefill_jobs(*args)
    return replace(made, may_drop=made.may_drop & ~made.running)


def _all_at_once(
    jobs: PrefillJobs, gone: IntArray, pay: bool, passed: BoolArray | None = None
) -> Iterator[Turn]:
    """A request that is overdue takes every step until it has it."""
    return _TURNS(jobs, gone, True, passed)


_TURNS = PrefillJobs.turns


def _arrival_s(snapshot: Snapshot, turn: Turn) -> float:
    view = snapshot.running.views[turn.row] if turn.running else snapshot.waiting[turn.row]
    return view.arrival_s


def _waits(snapshot: Snapshot, turn: Turn) -> bool:
    return not turn.running


def _any_batch() -> Patch:
    return Admission, "_target_s", lambda self, view: math.inf


def _prefill_only(jobs: PrefillJobs, *_: Any) -> FloatArray:
    return jobs.work_s


def _last_first(jobs: PrefillJobs, *_: Any) -> FloatArray:
    """The later the costlier: the one that would miss is shed."""
    return np.arange(len(jobs.row), dtype=np.float64)


# Parts that the robustness study switches off too.
SPEED = "engine speed followed"
GUARD = "TPOT guard at admission"
FIXED = "fixed_share = 1"
BROKEN_BIND = "broken promises do not bind"
OVERDUE = "those overdue get their time in parts"
NONE = np.empty(0, dtype=np.int64)
PARTS: Mapping[str, Part] = {
    "deadline order (arrival instead)": Part(patches=(_turns_by(_arrival_s),)),
    "TTFT refusal (and borrowing)": Part(patches=((shed, "to_shed", lambda *_: NONE),)),
    "the costliest is shed (the one that misses instead)": Part(
        patches=((PrefillJobs, "cost_s", _last_first),)
    ),
    "decodes in the cost (prefill alone instead)": Part(
        patches=((PrefillJobs, "cost_s", _prefill_only),)
    ),
    GUARD: Part(patches=(_any_batch(),)),
    "pacing (steps as long as the engine allows)": Part(
        patches=((policy_module, "step_limit_s", lambda step, _: step.decodes.most_s),)
    ),
    "time-line (every step within one S instead)": Part(
        patches=((step_decodes, "decode_slack_s", lambda running, rows, target_s, _: target_s),)
    ),
    "borrow_queue_s = 0": Part({"borrow_queue_s": 0.0}),
    "preemptive prefill": Part(patches=(_turns_by(_waits),)),
    "begun prefills stand back": Part(patches=((policy_module, "prefill_jobs", _begun_stay),)),
    OVERDUE: Part(patches=((PrefillJobs, "turns", _all_at_once),)),
    "light_share = 0 (no stock path)": Part({"light_share": 0.0}),
    "length belief (mean instead)": Part(patches=((LengthBelief, "slope", 0.0),)),
    "length belief (predictions as they are)": Part(patches=((LengthBelief, "slope", 1.0),)),
    SPEED: Part(patches=((EngineSpeed, "observe", lambda *_: None),)),
    "slack_reserve = 0": Part({"slack_reserve": 0.0}),
    "step margin": Part(patches=((EngineSpeed, "margin", lambda *_: 1.0),)),
    BROKEN_BIND: Part(
        patches=((step_decodes, "binding_target_s", lambda running, _: running.tpot_slo_s),)
    ),
    FIXED: Part({"fixed_share": 1.0}),
    "kv_share = 10 (the peak of KV is not looked at)": Part({"kv_share": 10.0}),
    "kv_dear_share = 10 (those dear in KV join as others)": Part({"kv_dear_share": 10.0}),
}


@contextmanager
def replaced(patches: Sequence[Patch]) -> Iterator[None]:
    """These names mean something else inside the block."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


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
    return [Run(SCENES[scene].load(quick), scene, part) for scene in scenes for part in parts]


def _rows(found: Found) -> Rows:
    runs: dict[tuple[str, str], list[list[float]]] = {}
    for run, both in found:
        assert isinstance(run, Run)
        runs[run.part, run.scene] = [percents(kept) for kept in both]
    rows: Rows = []
    for (part, scene), made in runs.items():
        row: dict[str, Any] = {"part": part, "scene": scene}
        for at, what in enumerate(("kept", "broken")):
            change = np.subtract(made[at], runs["", scene][at]).tolist() if part else made[at]
            row[what] = interval([change])
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
where no other is named; one seed. Four parts are for requests made to hurt: what they bring is in
[robustness](robustness.md), "SLOs made to hurt". What the stock path brings is in
[light load](light_load.md).

{said}

## Promises kept

{lines("kept")}

## Requests let in, but not served as promised

{lines("broken")}""")


STUDY = Study("ablation", QUESTIONS["ablation"], _cells, _rows, _page)
