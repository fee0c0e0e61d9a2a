"""No step is spent on requests that vLLM does not start, none is empty while one could run."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output.request import StructuredOutputRequest

from scorpio.core.plan import Rejection, RejectReason, StepPlan
from scorpio.core.registry import policy_names
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import FinishReason
from tests.conformance.snapshots import policy_for
from tests.engine.driver import Engine, Scripted

SPEC = EngineSpec(pipeline_depth=1, max_num_batched_tokens=512, num_blocks=400, max_model_len=4096)


class AnyGrammar:
    """A compiled grammar that takes every token."""

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        return True


def add_with_grammar(engine: Engine, request_id: str, **what: Any) -> Future[Any]:
    """A JSON-mode request as EngineCore hands it over: its grammar is being compiled."""
    request = engine.request(request_id, **what)
    grammar: Future[Any] = Future()
    asked = StructuredOutputRequest(StructuredOutputsParams(json_object=True), grammar)
    request.structured_output_request = asked
    request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    engine.scheduler.add_request(request)
    return grammar


@pytest.mark.parametrize("on_miss", ["wait", "reject"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", policy_names())
def test_grammars_being_compiled_hold_up_no_one_else(name: str, depth: Any, on_miss: str) -> None:
    spec = EngineSpec(pipeline_depth=depth, max_num_batched_tokens=512, num_blocks=4000,
                      max_model_len=8192)  # fmt: skip
    engine = Engine(spec)
    engine.scorpio.use_policy(policy_for(name, engine.scorpio._limits))
    grammars = [add_with_grammar(engine, f"g{i}", prompt=3000, slo_ttft_ms=900, slo_on_miss="wait")
                for i in range(5)]  # fmt: skip
    for index in range(20):
        engine.add(f"r{index}", prompt=100, slo_ttft_ms=60_000, slo_on_miss=on_miss)
    waited = engine.scorpio._state()
    for _ in range(60):
        engine.step()
    assert all(engine.tokens(f"r{index}") for index in range(20))
    assert waited["waiting"] == 25
    assert waited["waiting_not_startable"] == 5
    assert len(engine.scheduler.waiting) == 5
    for grammar in grammars:
        grammar.set_result(AnyGrammar())
    engine.drain()
    assert all(len(engine.tokens(f"g{index}")) == 4 for index in range(5))
    assert engine.scorpio.telemetry.fallbacks == 0
    engine.assert_drained()


def test_a_grammar_that_fails_ends_its_request_though_the_gate_is_closed() -> None:
    engine = Engine()
    engine.scorpio.use_policy(Scripted(StepPlan(admit=())))
    engine.add("a", output=20)
    engine.step()
    grammar = add_with_grammar(engine, "g")
    engine.step()
    assert not engine.outputs["g"]
    grammar.set_exception(ValueError("no such schema"))
    engine.step()
    (output,) = engine.outputs["g"]
    assert output.finish_reason is FinishReason.ERROR
    engine.drain()
    engine.assert_drained()


def test_a_grammar_taken_back_is_seen_though_no_event_tells() -> None:
    """vLLM marks those it passed over; a request may get such a status after it was queued."""
    engine = Engine()
    policy = Scripted(StepPlan(admit=("g",)))
    engine.scorpio.use_policy(policy)
    engine.add("g")
    request = engine.scheduler.requests["g"]
    asked = StructuredOutputRequest(StructuredOutputsParams(json_object=True), Future())
    request.structured_output_request = asked
    request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    engine.scheduler.deferred_waiting.add(request)
    engine.add("b")
    assert set(engine.step().num_scheduled_tokens) == {"b"}
    assert policy.seen is not None
    assert [view.request_id for view in policy.seen.waiting] == []


def test_preempted_requests_are_not_shown_before_their_old_outputs_came() -> None:
    spec = EngineSpec(num_blocks=9, max_model_len=128, pipeline_depth=2, max_num_seqs=8)
    engine = Engine(spec)
    engine.scorpio.use_policy(Scripted())
    engine.add("a", prompt=60, output=60)
    engine.add("b", prompt=30, output=60)
    while not any(r.num_stale_output_tokens for r in engine.scheduler.requests.values()):
        if len(engine.in_flight) == spec.pipeline_depth:
            engine.deliver()
        scheduled = engine.scheduler.schedule()
        engine.in_flight.append((scheduled, engine.runner.execute(scheduled)[1]))
    snapshot = engine.scorpio._snapshot()
    assert [view.request_id for view in snapshot.waiting] == []
    assert (len(engine.scheduler.waiting), engine.scorpio.waiting.num_held) == (1, 1)
    engine.deliver()
    (view,) = engine.scorpio._snapshot().waiting
    assert not engine.scheduler.requests[view.request_id].num_stale_output_tokens
    engine.drain()
    assert (len(engine.tokens("a")), len(engine.tokens("b"))) == (60, 60)
    assert engine.scorpio.telemetry.fallbacks == 0
    engine.assert_drained()


def test_one_that_is_admitted_twice_starts_once() -> None:
    engine = Engine()
    engine.scorpio.use_policy(Scripted(StepPlan(admit=("a", "a"))))
    engine.add("a")
    engine.drain()
    assert len(engine.tokens("a")) == 4
    engine.assert_drained()


def test_decodes_that_sit_out_run_when_all_others_await_their_last_token() -> None:
    engine = Engine(EngineSpec(pipeline_depth=2))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("short", output=2)
    engine.add("long", output=20)
    engine.step()
    engine.step()  # the second and last token of `short` is in flight
    assert engine.scheduler.requests["short"].num_output_placeholders
    rows = [request.request_id for request in engine.scheduler.running]
    policy.answer = StepPlan(skip_decode=(rows.index("long"),))
    assert set(engine.step().num_scheduled_tokens) == {"long"}
    assert engine.scorpio.telemetry.filled_steps == 1


def test_a_decode_moves_beside_prefills_though_all_that_can_are_skipped() -> None:
    engine = Engine(EngineSpec(pipeline_depth=2))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("short", output=2)
    engine.add("long", output=20)
    engine.step()
    engine.step()  # the second and last token of `short` is in flight
    assert engine.scheduler.requests["short"].num_output_placeholders
    engine.add("new")
    rows = [request.request_id for request in engine.scheduler.running]
    policy.answer = StepPlan(skip_decode=(rows.index("long"),), admit=("new",))
    assert set(engine.step().num_scheduled_tokens) == {"long", "new"}


def test_a_step_that_would_be_empty_is_filled_and_refuses_no_one() -> None:
    engine = Engine(SPEC)
    refusal = Rejection("a", RejectReason.TTFT_INFEASIBLE)
    engine.scorpio.use_policy(Scripted(StepPlan(admit=(), reject=(refusal,))))
    engine.add("a")
    engine.add("b")
    assert set(engine.step().num_scheduled_tokens) == {"b"}
    assert "a" in engine.scheduler.requests


def test_one_that_does_not_fit_leaves_the_step_to_those_that_do() -> None:
    engine = Engine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    hold = engine.scheduler.kv_cache_manager.block_pool.get_new_blocks(300)  # e.g. open sessions
    engine.add("big", prompt=3000)
    engine.add("small", prompt=50)
    policy.answer = StepPlan(admit=("big",))
    assert set(engine.step().num_scheduled_tokens) == {"small"}
    engine.scheduler.kv_cache_manager.block_pool.free_blocks(hold)
    policy.answer = StepPlan()
    engine.drain()
    assert len(engine.tokens("big")) == 4


def test_refusing_all_that_wait_needs_no_filling() -> None:
    engine = Engine()
    refusal = Rejection("a", RejectReason.TTFT_INFEASIBLE)
    engine.scorpio.use_policy(Scripted(StepPlan(admit=(), reject=(refusal,))))
    engine.add("a")
    assert not engine.step().num_scheduled_tokens
    assert engine.scorpio.telemetry.filled_steps == 0
    assert "a" not in engine.scheduler.requests


def test_skipped_decodes_and_budgets_are_decisions_and_stay() -> None:
    engine = Engine()
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=20)
    engine.add("b", output=20)
    engine.step()
    engine.add("c", prompt=100)
    policy.answer = StepPlan(admit=("c",), skip_decode=(0,), token_budget=8)
    scheduled = engine.step().num_scheduled_tokens
    assert scheduled == {"b": 1, "c": 7}
    assert engine.scorpio.telemetry.filled_steps == 0


def test_the_place_of_an_adapter_without_one_goes_to_the_next() -> None:
    spec = EngineSpec(pipeline_depth=1, max_loras=1, max_num_seqs=3)
    engine = Engine(spec)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=20, adapter=1)
    engine.step()
    for name, adapter in (("x", 2), ("y", 3), ("c", 1), ("d", 0), ("e", 0)):
        engine.add(name, adapter=adapter)
    policy.answer = StepPlan(admit=("x", "y"))
    assert set(engine.step().num_scheduled_tokens) == {"a", "c", "d"}
    assert engine.scorpio.telemetry.fallbacks == 0


def test_sessions_between_two_inputs_keep_their_seat() -> None:
    engine = Engine(EngineSpec(pipeline_depth=1, max_num_seqs=2))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    session = engine.request("s", output=2)
    session.resumable = True
    engine.scheduler.add_request(session)
    while session.status != RequestStatus.WAITING_FOR_STREAMING_REQ:
        engine.step()
    engine.add("a", output=20)
    engine.add("b")
    engine.step()
    assert policy.seen is not None
    assert policy.seen.limits.max_num_seqs == 1
    assert [r.request_id for r in engine.scheduler.running] == ["a"]


@pytest.mark.parametrize("name", policy_names())
def test_fewer_active_than_model_runner_slots(name: str) -> None:
    engine = Engine(EngineSpec(pipeline_depth=1, max_num_active_seqs=2))
    assert engine.scorpio._limits.max_num_seqs == 2
    engine.scorpio.use_policy(policy_for(name, engine.scorpio._limits))
    for index in range(8):
        engine.add(f"r{index}", 100, 10)
    engine.drain()
    assert all(len(engine.tokens(f"r{index}")) == 10 for index in range(8))
    assert engine.scorpio.telemetry.fallbacks == 0
