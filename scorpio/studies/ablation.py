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
from scorpio.core.policies.scorpio.learn.speed import Calibration
from scorpio.core.snapshot import Snapshot
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
from scorpio.twin.run import run_twin
from workloads.load import LoadKey

Patch = tuple[object, str, object]
LOADS, SEEDS = (1.6,), (0,)


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
    """A request that is owed something takes every step until it has it."""
    return _TURNS(jobs, gone, True, passed)


_TURNS = PrefillJobs.turns


def _arrival_s(snapshot: Snapshot, turn: Turn) -> float:
    view = snapshot.running.views[turn.row] if turn.running else snapshot.waiting[turn.row]
    return view.arrival_s


def _waits(snapshot: Snapshot, turn: Turn) -> bool:
    return not turn.running


def _any_batch() -> Patch:
    return Admission, "_pace_s", lambda self, view: math.inf


def _prefill_only(jobs: PrefillJobs, *_: Any) -> FloatArray:
    return jobs.work_s


def _last_first(jobs: PrefillJobs, *_: Any) -> FloatArray:
    """The later the costlier: whoever would miss is the one to go."""
    return np.arange(len(jobs.row), dtype=np.float64)


# Parts that the robustness study switches off too.
CALIBRATION = "online calibration"
GUARD = "TPOT guard at admission"
FIXED = "fixed_share = 1"
BROKEN_BIND = "broken promises bind nobody"
NOBODY = np.empty(0, dtype=np.int64)
PARTS: Mapping[str, Part] = {
    "deadline order (arrival instead)": Part(patches=(_turns_by(_arrival_s),)),
    "TTFT refusal (and borrowing)": Part(patches=((shed, "to_shed", lambda *_: NOBODY),)),
    "costliest goes (whoever misses instead)": Part(
        patches=((PrefillJobs, "cost_s", _last_first),)
    ),
    "decodes in the cost (prefill alone instead)": Part(
        patches=((PrefillJobs, "cost_s", _prefill_only),)
    ),
    GUARD: Part(patches=(_any_batch(),)),
    "pacing (every step up to max_step_s)": Part(
        patches=((policy_module, "step_limit_s", lambda step, _: step.options.max_step_s),)
    ),
    "time-line (every step within one S instead)": Part(
        patches=((step_decodes, "decode_slack_s", lambda running, rows, pace_s, _: pace_s),)
    ),
    "borrow_queue_s = 0": Part({"borrow_queue_s": 0.0}),
    "preemptive prefill": Part(patches=(_turns_by(_waits),)),
    "begun prefills stand back": Part(patches=((policy_module, "prefill_jobs", _begun_stay),)),
    "those owed get their time in parts": Part(patches=((PrefillJobs, "turns", _all_at_once),)),
    "light_share = 0 (no stock path)": Part({"light_share": 0.0}),
    "length belief (mean instead)": Part(patches=((LengthBelief, "slope", 0.0),)),
    "length belief (predictions as they are)": Part(patches=((LengthBelief, "slope", 1.0),)),
    CALIBRATION: Part(patches=((Calibration, "observe", lambda *_: None),)),
    "pace_reserve = 0": Part({"pace_reserve": 0.0}),
    "catch_up = 1": Part({"catch_up": 1.0}),
    "max_step_s = 60": Part({"max_step_s": 60.0}),
    "step margin": Part(patches=((Calibration, "margin", lambda *_: 1.0),)),
    BROKEN_BIND: Part(
        patches=((step_decodes, "binding_pace_s", lambda running, _: running.tpot_slo_s),)
    ),
    FIXED: Part({"fixed_share": 1.0}),
    "light_queue = 1,000": Part({"light_queue": 1000.0}),
    "scan_requests = 1": Part({"scan_requests": 1.0}),
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
    """`scorpio` without a part ("" = with all) on a load."""

    load: LoadKey
    part: str = ""

    @property
    def label(self) -> str:
        """What is off, and where."""
        return f"without {self.part or 'nothing'} on {self.load.label}"

    def run(self) -> list[str]:
        """[promise kept, let in but not kept]: a 0 or 1 per request each."""
        part = PARTS.get(self.part, Part())
        own = replace(engine(), policy_options={OURS: part.options})
        with replaced(part.patches):
            made = run_twin(own, self.load.requests(), OURS, self.load.seed)
        kept = [record.good for record in made.records]
        broken = [not r.good and r.reject_reason is None for r in made.records]
        return [flags(kept), flags(broken)]


def _cells(quick: bool) -> Cells:
    loads, seeds = ((1.6,), (0,)) if quick else (LOADS, SEEDS)
    parts = ("", *PARTS) if not quick else ("", *list(PARTS)[:2])
    return [
        Run(reference(scale, seed, quick), part)
        for part in parts
        for scale in loads
        for seed in seeds
    ]


def _rows(found: Found) -> Rows:
    runs: dict[tuple[str, float], list[list[list[float]]]] = {}
    for run, both in found:
        assert isinstance(run, Run)
        values = [percents(kept) for kept in both]
        runs.setdefault((run.part, run.load.rate_scale), []).append(values)
    rows: Rows = []
    for (part, scale), made in runs.items():
        row: dict[str, Any] = {"part": part, "load": scale}
        for at, what in enumerate(("kept", "broken")):
            whole = runs["", scale]
            change = [np.subtract(a[at], b[at]).tolist() for a, b in zip(made, whole, strict=True)]
            row[what] = interval([run[at] for run in made] if not part else change)
        rows.append(row)
    return rows


def _page(rows: Rows) -> Page:
    loads = sorted({row["load"] for row in rows})
    heads = ["without", *(f"x{load:g}: {what}" for load in loads for what in ("kept", "broken"))]
    lines = []
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = {row["load"]: row for row in rows if row["part"] == part}
        values = [mine[load][what] for load in loads for what in ("kept", "broken")]
        lines.append([part or "nothing (%)", *(shown(v, sign=bool(part)) for v in values)])
    return Page(f"""\
Each part of the policy `scorpio` is switched off alone, on the same requests and noise. First line:
promises kept, and requests that were let in but not served as promised, in % of all sent. Below:
what changes without the part, in points, with a 95 % interval over paired requests; bold
where it excludes zero. Reference window, one seed, A100 model.

{table(heads, lines)}""")


STUDY = Study("ablation", "What does each part of the policy bring?", _cells, _rows, _page)
