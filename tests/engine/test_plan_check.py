"""Which plans are never carried out? Each rule, and the plan beside it that is lawful."""

from __future__ import annotations

import pytest

from scorpio.core.plan import Rejection, RejectReason, StepPlan
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from scorpio.engine.plan_check import PlanError, check_plan
from tests.conformance.snapshots import Row, running_batch


def view(name: str, seq: int) -> RequestView:
    return RequestView(name, seq, 0.0, 50, 8, Slo(1.0))


def seen() -> Snapshot:
    """Rows 0 and 3 decode, 1 and 2 prefill; `back` was preempted, `a` and `b` wait."""
    done = {0: 50, 1: 20, 2: 0, 3: 50}
    rows = [Row(view(f"r{n}", n), n, False, tokens, 50, tokens // 50) for n, tokens in done.items()]
    table = WaitingTable()
    for seq, name in enumerate(("back", "a", "b"), 10):
        table.add(view(name, seq), float(seq), name == "back")
    return Snapshot(running_batch(rows), table, EngineLimits(8, 256, 8000, 16, 4096), 8000)


def no(*names: str) -> tuple[Rejection, ...]:
    return tuple(Rejection(name, RejectReason.TTFT_INFEASIBLE) for name in names)


@pytest.mark.parametrize(
    "plan",
    [
        StepPlan(),
        StepPlan(reject=no("a"), admit=["b"]),
        StepPlan(reject=no("a", "b")),
        StepPlan(skip_decode=[0]),
        StepPlan(skip_decode=[3]),
        StepPlan(prefill_order=[2, 1]),
        StepPlan(defer_prefill=[1, 2]),
        StepPlan(token_budget=1),
    ],
)
def test_lawful(plan: StepPlan) -> None:
    check_plan(plan, seen())


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (StepPlan(reject=no("a", "a")), "rejected twice"),
        (StepPlan(reject=no("gone")), "'gone', which does not wait for its first token"),
        (StepPlan(reject=no("back")), "already run"),
        (StepPlan(reject=no("a"), admit=["a", "b"]), "admits and rejects"),
        (StepPlan(skip_decode=[-1]), "not a running decode"),
        (StepPlan(skip_decode=[4]), "not a running decode"),
        (StepPlan(skip_decode=[1]), "not a running decode"),
        (StepPlan(skip_decode=[0, 2]), "not a running decode"),
        (StepPlan(skip_decode=[0, 3]), "every decode"),
        (StepPlan(prefill_order=[0]), "not an unfinished prefill"),
        (StepPlan(prefill_order=[1, 4]), "not an unfinished prefill"),
        (StepPlan(prefill_order=[-1]), "not an unfinished prefill"),
        (StepPlan(defer_prefill=[3]), "not an unfinished prefill"),
        (StepPlan(defer_prefill=[-2]), "not an unfinished prefill"),
        (StepPlan(prefill_order=[1, 1]), "prefill twice"),
        (StepPlan(token_budget=0), "token budget 0 < 1"),
    ],
)
def test_unlawful(plan: StepPlan, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        check_plan(plan, seen())
