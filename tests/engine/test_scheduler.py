"""The adapter against the real scheduler: every seam does what a plan asked, nothing leaks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from scorpio.core.plan import FinalState, Rejection, RejectReason, StepPlan
from scorpio.core.slo import OnMiss
from scorpio.core.wire import decode_rejection
from scorpio.engine.record import faults
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import (
    AsyncScheduler,
    FinishReason,
    abort,
)
from tests.engine.driver import Engine, Scripted, VirtualScheduler, expected, until_preempted


@pytest.mark.parametrize("depth", [1, 2])
def test_fcfs_schedules_exactly_what_stock_vllm_schedules(depth: Any) -> None:
    spec = EngineSpec(num_blocks=40, max_num_seqs=8, max_num_batched_tokens=64,
                      max_model_len=512, pipeline_depth=depth)  # fmt: skip

    def run(cls: type[AsyncScheduler]) -> list[dict[str, int]]:
        engine, rng, log = Engine(spec, cls=cls), random.Random(5), []
        for index in range(40):
            if rng.random() < 0.5:
                engine.add(f"r{index}", rng.randint(1, 150), rng.randint(1, 40))
            if rng.random() < 0.1 and engine.scheduler.requests:
                abort(engine.scheduler, rng.choice(sorted(engine.scheduler.requests)))
            log.append(dict(engine.step().num_scheduled_tokens))
        while engine.scheduler.has_requests():
            log.append(dict(engine.step().num_scheduled_tokens))
        return log

    stock = run(AsyncScheduler)
    assert run(VirtualScheduler) == stock
    assert sum(map(bool, stock)) > 40


@pytest.mark.parametrize("depth", [1, 2])
def test_refused_request_gets_one_terminal_output_and_leaves_no_trace(depth: Any) -> None:
    engine = Engine(EngineSpec(pipeline_depth=depth))
    refusal = Rejection("a", RejectReason.TTFT_INFEASIBLE, 2.4, 3.0)
    policy = Scripted(StepPlan(reject=(refusal,)))
    engine.scorpio.use_policy(policy)
    engine.add("a")
    engine.step()
    policy.answer = StepPlan()
    engine.drain()
    (output,) = engine.outputs["a"]
    assert output.finish_reason is FinishReason.ABORT
    assert output.new_token_ids == []
    notice = decode_rejection(output.stop_reason)
    assert notice is not None
    assert notice.reason is RejectReason.TTFT_INFEASIBLE
    assert (notice.retry_after_ms, notice.attainable_ttft_ms) == (3000, 2400)
    engine.assert_drained()
    assert engine.scorpio.telemetry.outcomes.total(FinalState.REJECTED) == 1
    assert engine.scorpio.telemetry.outcomes.total(FinalState.ABORTED) == 0


def test_refusal_beside_running_requests_keeps_their_streams_whole() -> None:
    engine = Engine()
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=6)
    engine.step()
    engine.add("b")
    policy.answer = StepPlan(reject=(Rejection("b", RejectReason.QUEUE_FULL),))
    engine.step()
    policy.answer = StepPlan()
    engine.drain()
    assert engine.tokens("a") == expected(1, 6)
    assert engine.tokens("b") == []
    assert len(engine.outputs["b"]) == 1


@pytest.mark.parametrize("depth", [1, 2])
def test_skipped_decode_sits_out_one_step_and_loses_no_token(depth: Any) -> None:
    engine = Engine(EngineSpec(pipeline_depth=depth))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=10)
    engine.add("b", output=10)
    engine.step()
    policy.answer = StepPlan(skip_decode=(0,))
    assert set(engine.step().num_scheduled_tokens) == {"b"}
    assert set(engine.step().num_scheduled_tokens) == {"b"}
    policy.answer = StepPlan()
    assert set(engine.step().num_scheduled_tokens) == {"a", "b"}
    engine.drain()
    assert engine.tokens("a") == expected(1, 10)
    assert engine.tokens("b") == expected(2, 10)


@pytest.mark.parametrize("depth", [1, 2])
def test_no_prefill_takes_the_tokens_of_a_decode_behind_it(depth: Any) -> None:
    """Not even of a plan that says nothing of prefills."""
    engine = Engine(EngineSpec(pipeline_depth=depth, max_num_batched_tokens=100, max_num_seqs=8))
    policy = Scripted(StepPlan(admit=("long",), token_budget=50))
    engine.scorpio.use_policy(policy)
    engine.add("long", prompt=400)
    engine.step()
    engine.add("decode", prompt=4, output=10)
    policy.answer = StepPlan(admit=("decode",), defer_prefill=(0,))
    engine.step()
    assert [r.request_id for r in engine.scheduler.running] == ["long", "decode"]
    policy.answer = StepPlan(token_budget=50)
    for _ in range(5):
        assert engine.step().num_scheduled_tokens == {"decode": 1, "long": 49}
    policy.answer = StepPlan()
    engine.drain()
    assert engine.tokens("decode") == expected(2, 10)


def test_only_admitted_requests_leave_the_queue_in_the_plans_order() -> None:
    engine = Engine(EngineSpec(pipeline_depth=1, max_num_batched_tokens=100, max_num_seqs=8))
    policy = Scripted(StepPlan(admit=("c", "a")))
    engine.scorpio.use_policy(policy)
    for name in "abc":
        engine.add(name, prompt=60)
    scheduled = engine.step().num_scheduled_tokens
    assert scheduled == {"c": 60, "a": 40}
    assert len(engine.scheduler.waiting) == 1  # b is held, and counts as waiting for autoscalers
    policy.answer = StepPlan(admit=())
    engine.step()
    assert [r.request_id for r in engine.scheduler.running] == ["c", "a"]
    policy.answer = StepPlan()
    engine.drain()
    engine.assert_drained()


def test_token_budget_holds_for_one_step_only() -> None:
    engine = Engine()
    policy = Scripted(StepPlan(token_budget=10))
    engine.scorpio.use_policy(policy)
    engine.add("a", prompt=100)
    assert engine.step().total_num_scheduled_tokens == 10
    policy.answer = StepPlan()
    assert engine.step().total_num_scheduled_tokens == 90


def test_preempted_requests_come_back_first_whatever_the_plan_admits() -> None:
    spec = EngineSpec(num_blocks=9, max_model_len=128, pipeline_depth=1)
    engine = Engine(spec)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", prompt=60, output=60)
    engine.add("b", prompt=30, output=60)
    until_preempted(engine)
    assert policy.seen is not None
    policy.answer = StepPlan(admit=())  # none new, and still it must resume
    engine.drain()
    assert engine.tokens("a") == expected(1, 60)
    assert engine.tokens("b") == expected(2, 60)
    engine.assert_drained()


def test_failing_policy_means_stock_and_a_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    for level in ("exception", "error"):
        monkeypatch.setattr(faults.logger, level, lambda text, *_, **__: logged.append(text))
    engine = Engine(scorpio={"policy": "fcfs", "breaker_limit": 3, "breaker_quiet_s": 1.0})
    policy = Scripted(RuntimeError("boom"))
    engine.scorpio.use_policy(policy)
    engine.add("a", output=300)
    for _ in range(2):
        engine.step()
    assert engine.scorpio.telemetry.fallbacks == 2
    for _ in range(3):
        engine.step()
    assert engine.scorpio.telemetry.fallbacks == 3  # open: the policy is not asked any more
    assert engine.scorpio._state()["breaker_open"] is True
    failed, switched_off = logged  # once each, however often it failed
    assert "logged once" in failed
    assert "done without" in switched_off
    policy.answer = StepPlan()
    for _ in range(110):
        engine.step()  # a second later it is asked again
    assert policy.seen is not None
    assert engine.scorpio._state()["breaker_open"] is False
    engine.drain()
    assert engine.tokens("a") == expected(1, 300)
    assert engine.scorpio.telemetry.fallbacks == 3


def test_rare_failures_open_no_breaker() -> None:
    engine = Engine(scorpio={"policy": "fcfs", "breaker_limit": 3, "breaker_window_s": 0.05})
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=300)
    for index in range(100):
        policy.answer = RuntimeError("boom") if index % 10 == 0 else StepPlan()
        engine.step()
    assert engine.scorpio.telemetry.fallbacks == 10
    assert engine.scorpio._state()["breaker_opened"] == 0


BAD_PLANS = [
    StepPlan(reject=(Rejection("unknown", RejectReason.QUEUE_FULL),)),
    StepPlan(reject=(Rejection("w", RejectReason.QUEUE_FULL),) * 2),
    StepPlan(admit=("w",), reject=(Rejection("w", RejectReason.QUEUE_FULL),)),
    StepPlan(skip_decode=(0,)),
    StepPlan(skip_decode=(7,)),
    StepPlan(skip_decode=(-1,)),
    StepPlan(token_budget=0),
]


@pytest.mark.parametrize("plan", BAD_PLANS)
def test_plan_that_breaks_a_rule_changes_nothing(plan: StepPlan) -> None:
    engine = Engine(EngineSpec(pipeline_depth=1, max_num_seqs=1))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=8)
    engine.add("w")
    engine.step()
    policy.answer = plan
    assert set(engine.step().num_scheduled_tokens) == {"a"}
    assert engine.scorpio.telemetry.fallbacks == 1
    policy.answer = StepPlan()
    engine.drain()
    assert engine.tokens("a") == expected(1, 8)
    assert engine.tokens("w") == expected(2, 4)


def test_started_requests_cannot_be_refused() -> None:
    spec = EngineSpec(num_blocks=9, max_model_len=128, pipeline_depth=1)
    engine = Engine(spec)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", prompt=60, output=60)
    engine.add("b", prompt=30, output=60)
    until_preempted(engine)
    policy.answer = StepPlan(reject=(Rejection("b", RejectReason.QUEUE_FULL),))
    engine.step()
    assert engine.scorpio.telemetry.fallbacks == 1
    assert engine.scorpio.telemetry.outcomes.rejected.total() == 0


def test_an_empty_engine_never_waits() -> None:
    engine = Engine()
    engine.scorpio.use_policy(Scripted(StepPlan(admit=())))
    engine.add("a")
    assert set(engine.step().num_scheduled_tokens) == {"a"}


GARBAGE = [float("nan"), 1e999, -5, True, "0", "abc", [1], {"a": 1}, None, 1e308, ""]


@pytest.mark.parametrize("value", GARBAGE, ids=repr)
@pytest.mark.parametrize("field", ["slo_ttft_ms", "slo_tpot_ms", "slo_class", "slo_on_miss",
                                   "predicted_output_tokens", "slo_tenant"])  # fmt: skip
def test_malformed_slo_never_reaches_arithmetic(field: str, value: object) -> None:
    engine = Engine()
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    xargs: dict[str, Any] = {field: value}
    engine.add("a", output=2, **xargs)
    view = engine.scorpio._tracker.live["a"].view
    assert view.slo.ttft_s > 0
    assert view.slo.tpot_s > 0
    engine.drain()
    assert engine.tokens("a") == expected(1, 2)
    assert engine.scorpio.telemetry.fallbacks == 0


def test_slo_classes_and_wall_clock() -> None:
    config = {
        "policy": "fcfs",
        "classes": {"chat": {"ttft_ms": 500, "tpot_ms": 50, "on_miss": "wait"}},
        "default_class": "chat",
    }
    engine = Engine(scorpio=config)
    engine.scorpio.virtual_s = 100.0
    engine.add("a")
    engine.add("b", slo_ttft_ms=250)
    views = {name: engine.scorpio._tracker.live[name].view for name in "ab"}
    assert views["a"].deadline_s == pytest.approx(100.5)
    assert views["b"].deadline_s == pytest.approx(100.25)
    assert views["b"].slo.tpot_s == pytest.approx(0.05)
    assert views["b"].slo.on_miss is OnMiss.WAIT


@pytest.mark.parametrize("shift_s", [-3600.0, 3600.0])
def test_a_stepped_wall_clock_moves_no_deadline_far(shift_s: float) -> None:
    engine = Engine()
    engine.scorpio.wall_s = lambda: shift_s  # type: ignore[method-assign]
    engine.add("a", slo_ttft_ms=500)
    view = engine.scorpio._tracker.live["a"].view
    assert -60.0 <= view.arrival_s <= 0.0
