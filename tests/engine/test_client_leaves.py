"""A client leaves, in any state of its request: is all given back, are the others left alone?"""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.core.plan import Rejection, RejectReason, StepPlan
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import (
    abort,
)
from tests.engine.driver import Engine, Scripted, expected, until_preempted

STATES = ["waiting", "held back", "prefill", "deferred prefill", "decode", "skipped decode",
          "step in flight", "preempted", "refused", "refusal told"]  # fmt: skip


def bring_x_into(state: str, engine: Engine, policy: Scripted) -> None:
    """Leaves request x in this state, beside a that decodes."""
    refusal = StepPlan(reject=(Rejection("x", RejectReason.OVER_QUOTA),))
    if state == "preempted":
        engine.add("a", prompt=60, output=60)
        engine.add("x", prompt=30, output=60)
        until_preempted(engine)
        return
    engine.add("a", output=20)
    engine.step()
    engine.step()
    engine.add("x", prompt=60 if "prefill" in state else 20, output=20)
    if state == "held back":
        policy.answer = StepPlan(admit=())
        engine.step()
        assert len(engine.scheduler.waiting) == 1
    elif state == "deferred prefill":
        engine.step()
        policy.answer = StepPlan(defer_prefill=(1,))
        assert "x" not in engine.step().num_scheduled_tokens
        assert engine.scheduler.requests["x"].is_prefill_chunk
    elif state == "skipped decode":
        engine.step()
        engine.step()
        policy.answer = StepPlan(skip_decode=(1,))
        assert "x" not in engine.step().num_scheduled_tokens
    elif state == "step in flight":
        # what EngineCore does: aborts are carried out between schedule() and its output
        engine.in_flight.append((scheduled := engine.scheduler.schedule(),
                                 engine.runner.execute(scheduled)[1]))  # fmt: skip
        assert "x" in scheduled.num_scheduled_tokens
    elif state in ("refused", "refusal told"):
        policy.answer = refusal
        engine.step()
        policy.answer = StepPlan()
        if state == "refusal told":
            engine.step()
            engine.step()
    elif state != "waiting":
        for _ in range(1 if state == "prefill" else 2):
            engine.step()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("depth", [1, 2])
def test_client_leaves_in_any_state(state: str, depth: Any) -> None:
    """x leaves: it is heard of no more, and the other's stream is whole."""
    spec = EngineSpec(
        num_blocks=9, max_model_len=128, max_num_batched_tokens=32, max_num_seqs=8,
        pipeline_depth=depth,
    )  # fmt: skip
    engine = Engine(spec)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    bring_x_into(state, engine, policy)
    told = len(engine.outputs["x"])
    abort(engine.scheduler, "x")
    policy.answer = StepPlan()
    engine.drain()
    engine.assert_drained()
    assert engine.scorpio.telemetry.fallbacks == 0
    assert len(engine.outputs["x"]) == (1 if state.startswith("refus") else told)
    if state == "refusal told":
        assert told == 1
    assert engine.tokens("a") == expected(1, 60 if state == "preempted" else 20)
