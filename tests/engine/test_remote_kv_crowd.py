"""Many requests at an engine with a KV connector that is late, fails and sends: does each end, is
every block free in the end, and is `fcfs` stock vLLM in each step?"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from vllm.v1.request import RequestStatus

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler, FinishReason, Scheduler, abort
from tests.engine.connecting import ConnectedEngine
from tests.engine_server import PROFILE

POLICIES = ["scorpio", "scorpio-paper", "qoserve", "edf", "fcfs"]
KINDS = ("none", "now", "later", "asks later", "asks now", "later sends", "sends", "fails later")
SLOS: tuple[Any, ...] = ({}, {"slo_tpot_ms": 25.0}, {"slo_ttft_ms": 500.0})


def spec(depth: Any, **more: Any) -> EngineSpec:
    return EngineSpec(
        pipeline_depth=depth, max_num_batched_tokens=128, num_blocks=100, max_num_seqs=8,
        max_model_len=512, **more,
    )  # fmt: skip


def kinds(depth: int) -> tuple[str, ...]:
    """A load in the same step that fails is rolled back only where no step is in flight."""
    return (*KINDS, "fails now") if depth == 1 else KINDS


@pytest.mark.parametrize("failures", ["recompute", "fail"])
@pytest.mark.parametrize("depth", [1, 2])
def test_fcfs_is_stock_vllm_step_for_step(depth: Any, failures: str) -> None:
    which = spec(depth, enable_prefix_caching=True)
    stock_cls = AsyncScheduler if depth == 2 else Scheduler
    ours = ConnectedEngine(which, {"policy": "fcfs"}, failures=failures)
    stock = ConnectedEngine(which, cls=stock_cls, failures=failures)
    for number in range(200):
        random_ = Random(number)
        if number < 120 and random_.random() < 0.5:
            for engine in (ours, stock):
                engine.ask_any(Random(number), f"r{number}", kinds(depth), slo_ttft_ms=50)
        steps = [engine.step() for engine in (ours, stock)]
        assert steps[0].num_scheduled_tokens == steps[1].num_scheduled_tokens
    for engine in (ours, stock):
        engine.drain()
        engine.assert_drained()
    assert {n: ours.tokens(n) for n in ours.wanted} == {n: stock.tokens(n) for n in ours.wanted}
    assert sorted(ours.connector.ended) == sorted(stock.connector.ended)


@pytest.mark.parametrize("role", ["kv_both", "kv_consumer", "kv_producer"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_ends(policy: str, depth: Any, role: str) -> None:
    settings = {"policy": policy, "latency": PROFILE.to_dict()}
    engine = ConnectedEngine(spec(depth, enable_prefix_caching=depth == 2), settings, role=role)
    random_ = Random(5)
    for number in range(50):
        slo = random_.choice(SLOS)
        engine.ask_any(random_, f"r{number}", kinds(depth), slo_on_miss="wait", **slo)
        for _ in range(random_.randrange(4)):
            engine.step(random_.choice((0.002, 0.03)))
            assert engine.scorpio.tracked_ids <= engine.scheduler.requests.keys()
    while engine.scheduler.has_unfinished_requests():
        able = startable(engine) and not engine.in_flight
        assert engine.step().num_scheduled_tokens or not able
    engine.drain()
    engine.assert_all_served()
    assert engine.scorpio.telemetry.fallbacks == 0


@pytest.mark.parametrize("failures", ["recompute", "fail"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("policy", ["scorpio", "qoserve"])
def test_refused_aborted_or_served_nothing_is_left(policy: str, depth: Any, failures: str) -> None:
    settings = {"policy": policy, "latency": PROFILE.to_dict()}
    engine = ConnectedEngine(spec(depth, enable_prefix_caching=True), settings, failures=failures)
    random_ = Random(11)
    for number in range(80):
        slo_ms = random_.choice((40.0, 400.0))
        engine.ask_any(random_, f"r{number}", kinds(depth), slo_ttft_ms=slo_ms)
        for _ in range(random_.randrange(3)):
            engine.step(random_.choice((0.002, 0.03)))
        if random_.random() < 0.2:
            abort(engine.scheduler, f"r{random_.randrange(number + 1)}")
        assert engine.scorpio.tracked_ids <= engine.scheduler.requests.keys()
    engine.drain()
    engine.assert_drained()
    assert engine.scorpio.telemetry.fallbacks == 0
    assert sorted(engine.connector.ended) == sorted(engine.wanted)
    ended = [
        engine.outputs[name][-1].finish_reason for name in engine.wanted if engine.outputs[name]
    ]
    assert FinishReason.STOP in ended
    assert (FinishReason.ABORT in ended) is (policy == "scorpio")  # refused


def startable(engine: ConnectedEngine) -> bool:
    """Is there one that stock would compute, whatever the connector says?"""
    scheduler = engine.scheduler
    if scheduler.running or scheduler.finished_recving_kv_req_ids:
        return True
    kind = {r.request_id: (r.kv_transfer_params or {})["kind"] for r in scheduler.waiting}
    return any(kinds in ("none", "now", "sends") for kinds in kind.values()) and not any(
        r.status == RequestStatus.WAITING_FOR_REMOTE_KVS for r in scheduler.requests.values()
    )
