"""Are the words for how a request ends fixed, and is the stock step really stock?"""

from __future__ import annotations

import dataclasses

import pytest

from scorpio.core.plan import STOCK_STEP, FinalState, Rejection, RejectReason, StepPlan


def test_reasons_are_the_published_header_values() -> None:
    """`x-scorpio-reject-reason` and metric labels are read by other people's tools."""
    assert [reason.value for reason in RejectReason] == [
        "ttft_infeasible",
        "tpot_infeasible",
        "kv_infeasible",
        "queue_full",
        "over_quota",
    ]
    assert {state.value for state in FinalState} == {"finished", "rejected", "aborted", "failed"}


def test_a_plan_that_says_nothing_changes_nothing() -> None:
    plan = StepPlan()
    assert plan.admit is None
    assert plan.token_budget is None
    assert not plan.skip_decode
    assert not plan.reject
    assert dataclasses.replace(plan, stock=True) == STOCK_STEP


def test_plans_cannot_be_changed_after_the_fact() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        STOCK_STEP.stock = False  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Rejection("r1", RejectReason.QUEUE_FULL).retry_after_s = None  # type: ignore[misc]
