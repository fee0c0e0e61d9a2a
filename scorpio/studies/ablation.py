"""What does each part of `scorpio` bring? `python -m scorpio.studies.ablation --out FILE`.

Every part is switched off alone, on the same requests and noise; the table says what that changes,
in points of attainment and of promises broken (let in, but not kept), with a 95 % interval over
paired requests and seeds. Parts that are options
are set to their "off" value; the others are replaced inside the run by what would stand there
without them (`PARTS`), so that the policy carries no switches for this table's sake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.policies.scorpio import admission, packing, shed, step_decodes, stock_step
from scorpio.core.policies.scorpio import policy as policy_module
from scorpio.core.policies.scorpio.admission import GrowingBatch
from scorpio.core.policies.scorpio.jobs import PrefillJobs, Turn, prefill_jobs
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.learn.speed import Calibration
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.snapshot import Snapshot
from scorpio.studies.window import add_runs, engine, window_parser, workloads
from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import run_jobs
from scorpio.twin.run import run_twin
from workloads.load import LoadKey
from workloads.results.intervals import Interval, mean_interval

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
    def jobs(model: Any, snapshot: Snapshot, *rest: Any) -> PrefillJobs:
        made = prefill_jobs(model, snapshot, *rest)
        columns = {column.name: getattr(made, column.name) for column in fields(made)}
        return _Reordered(**columns, key=partial(key, snapshot))

    return policy_module, "prefill_jobs", jobs


def _begun_stay(*args: Any) -> PrefillJobs:
    made = prefill_jobs(*args)
    return replace(made, may_drop=made.may_drop & (made.row >= 0))


def _all_at_once(
    jobs: PrefillJobs, gone: IntArray, pay: bool, passed: BoolArray | None = None
) -> Iterator[Turn]:
    """A request that is owed something takes every step until it has it."""
    return _TURNS(jobs, gone, True, passed)


_TURNS = PrefillJobs.turns


def _arrival_s(snapshot: Snapshot, turn: Turn) -> float:
    row = turn[0]
    view = snapshot.waiting[row] if row >= 0 else snapshot.running.views[-1 - row]
    return view.arrival_s


def _waits(snapshot: Snapshot, turn: Turn) -> bool:
    return turn[0] >= 0


def _any_batch() -> Patch:
    return GrowingBatch, "_pace_s", lambda self, view: math.inf


def _prefill_only(jobs: PrefillJobs, *_: Any) -> FloatArray:
    return jobs.work_s


def _last_first(jobs: PrefillJobs, *_: Any) -> FloatArray:
    """The later the costlier: whoever would miss is the one to go."""
    return np.arange(len(jobs.row), dtype=np.float64)


# Parts that `scorpio.studies.robustness.tables` switches off too.
CALIBRATION = "online calibration"
GUARD = "TPOT guard at admission"
FIXED = "_FIXED = 1"
BROKEN_BIND = "broken promises bind nobody"
NOBODY = np.empty(0, dtype=np.int64)
PARTS: Mapping[str, Part] = {
    "deadline order (arrival instead)": Part(patches=(_turns_by(_arrival_s),)),
    "TTFT refusal (and borrowing)": Part(patches=((shed, "let_go", lambda *_: NOBODY),)),
    "costliest goes (whoever misses instead)": Part(
        patches=((PrefillJobs, "cost_s", _last_first),)
    ),
    "decodes in the cost (prefill alone instead)": Part(
        patches=((PrefillJobs, "cost_s", _prefill_only),)
    ),
    GUARD: Part(patches=(_any_batch(),)),
    "pacing (every step up to max_step_s)": Part(
        patches=((Scorpio, "_step_limit_s", lambda self, decodes: self._o["max_step_s"]),)
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
    FIXED: Part(patches=((admission, "_FIXED", 1.0),)),
    "_LIGHT_QUEUE = 1,000": Part(patches=((stock_step, "_LIGHT_QUEUE", 1000),)),
    "_MAX_SCAN = 1": Part(patches=((packing, "_MAX_SCAN", 1),)),
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
    """`scorpio` without a part ("" = with all) on a load.

    The result has shape [2, requests], 0 or 100 each: promise kept; let in, but not kept.
    """

    config: TwinConfig
    load: LoadKey
    part: str = ""

    @property
    def label(self) -> str:
        """What is off, and where."""
        return f"without {self.part or 'nothing'} on {self.load.label}"

    def run(self) -> FloatArray:
        """Do it here and now."""
        part = PARTS.get(self.part, Part())
        own = replace(self.config, policy_options={"scorpio": part.options})
        with replaced(part.patches):
            made = run_twin(own, self.load.requests(), "scorpio", self.load.seed)
        good = np.array([record.good for record in made.records])
        refused = np.array([record.reject_reason is not None for record in made.records])
        return 100.0 * np.array([good, ~good & ~refused])


def cell(difference: Interval) -> str:
    """Points with interval; bold when it excludes zero."""
    text = f"{difference.mean:+.1f} ({difference.low:+.1f}..{difference.high:+.1f})"
    return f"**{text}**" if difference.excludes_zero else text


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = window_parser(__doc__, "0.8,1.2,1.6,2.4")
    add_runs(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile-bias", type=float, default=1.0)
    parser.add_argument("--parts", default="", help="those whose name contains one of these")
    args = parser.parse_args()
    scales, runs = args.rate_scale, len(args.seed)
    keys = [key for scale in scales for key in workloads(args, scale)]
    config = replace(engine(args.gpu), profile_bias=args.profile_bias)

    def good(part: str) -> list[list[FloatArray]]:
        found = run_jobs([Run(config, key, part) for key in keys], args.workers)
        return [found[at : at + runs] for at in range(0, len(found), runs)]

    with args.out.open("w", buffering=1) as file:

        def line(*cells: str) -> None:
            print("| " + " | ".join(cells) + " |", file=file)

        heads = (f"x{scale:g} {what}" for scale in scales for what in ("kept", "broken"))
        line(f"{args.trace} {args.rows}, {args.mix}", *heads)
        line(*["---"] * (2 * len(scales) + 1))
        whole = good("")
        means = (np.mean([run.mean(axis=1) for run in load], axis=0) for load in whole)
        line("all parts", *(f"{value:.1f} %" for mean in means for value in mean.tolist()))
        for part in (name for name in PARTS if any(word in name for word in args.parts.split(","))):
            line(
                part,
                *(
                    cell(mean_interval([b[what] - a[what] for a, b in zip(base, off, strict=True)]))
                    for base, off in zip(whole, good(part), strict=True)
                    for what in (0, 1)
                ),
            )


if __name__ == "__main__":
    main()
