"""What stands where a part of `scorpio` is switched off?

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
from scorpio.core.snapshot import Snapshot
from scorpio.core.speed.follow import EngineSpeed

Patch = tuple[object, str, object]


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
