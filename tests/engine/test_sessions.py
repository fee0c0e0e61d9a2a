"""Sessions whose input comes in parts: vLLM's API process waits for one answer to each part."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.v1.request import RequestStatus

from scorpio.core.plan import Rejection, RejectReason, StepPlan
from scorpio.core.wire import decode_rejection
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted

SPEC = EngineSpec(pipeline_depth=1, max_num_seqs=1)


def send(engine: Engine, name: str, more: bool = True, known: bool = False, **what: Any) -> None:
    """An input of a session; `more` is False for vLLM's word that none will come."""
    told = engine.outputs.get(name, [])
    part = engine.request(name, **what)
    engine.outputs[name] = told
    part.resumable = more
    engine.scheduler.add_request(part)
    assert (name in engine.scheduler.requests) == known


def refusals(engine: Engine, name: str) -> list[RejectReason | None]:
    notices = [decode_rejection(output.stop_reason) for output in engine.outputs[name]]
    return [None if notice is None else notice.reason for notice in notices]


@pytest.mark.parametrize("told_first", [False, True])
def test_each_part_of_a_session_beyond_a_cap_is_refused(told_first: bool) -> None:
    engine = Engine(SPEC, {"policy": "fcfs", "most_waiting": 1})
    engine.add("waits", output=50)
    send(engine, "s")
    if told_first:
        engine.step()
    engine.add("a", output=2)
    for part in (1, 2):
        send(engine, "s")
        engine.step()
        assert len(engine.outputs["s"]) == 1 + part if told_first else part
    send(engine, "s", more=False)
    engine.drain()
    assert engine.tokens("s") == []
    assert set(refusals(engine, "s")) == {RejectReason.QUEUE_FULL}
    assert len(engine.outputs["s"]) == 4  # the API process drops the last: it knows s no more
    engine.assert_drained()


def test_a_part_that_comes_to_an_idle_engine_is_answered() -> None:
    engine = Engine(SPEC, {"policy": "fcfs", "most_waiting": 1})
    engine.add("waits")
    send(engine, "s")
    engine.drain()
    assert len(engine.outputs["s"]) == 1
    send(engine, "s")
    engine.drain()
    assert refusals(engine, "s") == [RejectReason.QUEUE_FULL] * 2


def test_parts_that_wait_behind_a_refused_one_are_answered() -> None:
    engine = Engine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("runs", output=50)
    engine.step()
    for _ in range(3):
        send(engine, "s", known=True)
    send(engine, "s", more=False, known=True)
    policy.answer = StepPlan(reject=(Rejection("s", RejectReason.TTFT_INFEASIBLE),))
    engine.step()
    assert refusals(engine, "s") == [RejectReason.TTFT_INFEASIBLE] * 3
    policy.answer = StepPlan()
    engine.drain()
    engine.assert_drained()


@pytest.mark.parametrize("read_on", [False, True])
def test_a_session_that_is_preempted_when_its_answer_ends_goes_on(read_on: bool) -> None:
    """Stock vLLM 0.32 takes it out of its queue for good, and forgets what it has read.
    read_on: its next input is there when the answer ends."""
    engine = Engine(EngineSpec(pipeline_depth=2, max_num_seqs=2, num_blocks=1 + 4))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("grows", prompt=30, output=20)
    session = engine.request("s", prompt=29, output=3)
    session.resumable = True
    engine.scheduler.add_request(session)
    if read_on:
        send(engine, "s", known=True, prompt=2, output=3)
    while session.num_output_tokens < 2:
        engine.step()
    while session.num_output_tokens and session.status != RequestStatus.WAITING_FOR_STREAMING_REQ:
        engine.step()
    assert session.num_preemptions == 1
    if not read_on:
        send(engine, "s", known=True, prompt=2, output=3)
    assert session.num_output_tokens == 0
    assert session.num_tokens == session.num_prompt_tokens == 29 + 2 + 2
    engine.step()
    assert policy.seen is not None
    assert policy.seen.waiting.started.tolist() == [True]  # so it may not be refused
    send(engine, "s", more=False, known=True)
    engine.drain()
    assert len(engine.tokens("s")) == 6
    engine.assert_drained()
