"""Many prompts with images at an encoder with little room: does each end, is nothing left of it,
and is `fcfs` stock vLLM in each step?"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler, FinishReason, Scheduler, abort
from tests.engine.picturing import PicturingEngine
from tests.engine_server import PROFILE

POLICIES = ["scorpio", "scorpio-paper", "qoserve", "edf", "fcfs"]
# (budget, cache) of the encoder: enough for all, for one after the other, for one of the longest
ROOMS = [(1000, 4000), (100, 150), (100, 100)]
LONGEST = 100


def spec(depth: Any, **more: Any) -> EngineSpec:
    return EngineSpec(
        pipeline_depth=depth, max_num_batched_tokens=128, num_blocks=120, max_num_seqs=8,
        max_model_len=512, **more,
    )  # fmt: skip


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("depth", [1, 2])
def test_fcfs_is_stock_vllm_step_for_step(depth: Any, room: tuple[int, int]) -> None:
    for whole in (False, True):
        which = spec(depth, enable_prefix_caching=True)
        stock_cls = AsyncScheduler if depth == 2 else Scheduler
        engines = [
            PicturingEngine(which, {"policy": "fcfs"}, budget=room[0], cache=room[1], whole=whole),
            PicturingEngine(which, cls=stock_cls, budget=room[0], cache=room[1], whole=whole),
        ]
        for number in range(160):
            random_ = Random(number)
            if number < 100 and random_.random() < 0.5:
                for engine in engines:
                    engine.add_any(Random(number), f"r{number}", LONGEST, slo_ttft_ms=50)
            ours, stock = (engine.step() for engine in engines)
            assert ours.num_scheduled_tokens == stock.num_scheduled_tokens
            assert ours.scheduled_encoder_inputs == stock.scheduled_encoder_inputs
        for engine in engines:
            engine.drain()
            engine.assert_all_served()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_ends(policy: str, depth: Any, room: tuple[int, int], whole: bool) -> None:
    settings = {"policy": policy, "latency": PROFILE.to_dict()}
    which = spec(depth, enable_prefix_caching=depth == 2)
    engine = PicturingEngine(which, settings, budget=room[0], cache=room[1], whole=whole)
    slos: tuple[Any, ...] = ({}, {"slo_tpot_ms": 25.0}, {"slo_ttft_ms": 500.0})
    random_ = Random(5)
    for number in range(40):
        slo = random_.choice(slos)
        engine.add_any(random_, f"r{number}", LONGEST, slo_on_miss="wait", **slo)
        for _ in range(random_.randrange(4)):
            engine.step(random_.choice((0.002, 0.03)))
    while engine.scheduler.has_unfinished_requests():
        nothing_to_come = not engine.in_flight
        scheduled = engine.step()
        assert scheduled.num_scheduled_tokens or not nothing_to_come
    engine.drain()
    engine.assert_all_served()
    assert engine.scorpio.telemetry.fallbacks == 0


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("policy", ["scorpio", "qoserve"])
@pytest.mark.parametrize(
    "kind", [{}, {"sliding_window": 64}, {"shift": 1}, {"shift": 3}], ids=lambda kind: str(kind)
)
def test_refused_aborted_or_served_nothing_is_left(policy: str, depth: Any, kind: Any) -> None:
    """Also where layers look back over a window, and where a draft model reads ahead (`shift`)."""
    settings = {"policy": policy, "latency": PROFILE.to_dict()}
    window = {key: kind[key] for key in kind if key != "shift"}
    shift = kind.get("shift", 0)
    cache = (
        250 if shift else 120
    )  # with less vLLM 0.32 itself gets stuck where a draft model reads ahead
    which = spec(depth, enable_prefix_caching=True, **window)
    engine = PicturingEngine(which, settings, budget=100, cache=cache, whole=depth == 1)
    engine.scheduler.num_prefill_lookahead = shift
    random_ = Random(11)
    for number in range(60):
        engine.add_any(random_, f"r{number}", LONGEST, slo_ttft_ms=random_.choice((40.0, 400.0)))
        for _ in range(random_.randrange(3)):
            engine.step(random_.choice((0.002, 0.03)))
        if random_.random() < 0.2:
            abort(engine.scheduler, f"r{random_.randrange(number + 1)}")
    engine.drain()
    engine.assert_drained()
    engine.assert_nothing_encoded_is_held()
    assert engine.scorpio.telemetry.fallbacks == 0
    ended = [
        engine.outputs[name][-1].finish_reason for name in engine.wanted if engine.outputs[name]
    ]
    assert FinishReason.STOP in ended
    assert (FinishReason.ABORT in ended) is (policy == "scorpio")  # refused
