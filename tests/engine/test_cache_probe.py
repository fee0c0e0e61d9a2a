"""Does a stranger learn from refusals what is in the prefix cache? On vLLM's real scheduler."""

from __future__ import annotations

import pytest

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine

STEP = StepModel(0.010, 0.0, 1e-4, 0.0, 0.0, 0.0, 1e-7)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "hand")
GUESSES = {
    "right": [0, 1, 2, 3, 4, 5, 6, 7],
    "half": [0, 1, 2, 3, 104, 105, 106, 107],
    "wrong": list(range(100, 108)),
}


def add(engine: Engine, name: str, prefix: list[int], **xargs: object) -> None:
    engine.number += 1
    engine.outputs[name] = []
    made = engine.factory.make(
        name, engine.scorpio.virtual_s, 4096, 4, xargs, prefix_ids=prefix, prefix_block_tokens=512
    )
    engine.runner.expect(name, engine.number, 4096, 4)
    engine.scheduler.add_request(made)


@pytest.mark.parametrize("policy", ["scorpio", "scorpio-paper"])
def test_three_guesses_are_told_the_same(policy: str) -> None:
    spec = EngineSpec(
        pipeline_depth=1, enable_prefix_caching=True, num_blocks=4000, max_model_len=16384
    )
    engine = Engine(spec, {"policy": policy, "latency": PROFILE.to_dict()})
    add(engine, "victim", GUESSES["right"])
    engine.drain()
    told = set()
    for name, prefix in GUESSES.items():
        add(engine, name, prefix, slo_ttft_ms=0.001, slo_tenant="stranger")
        engine.step()
        (refused,) = engine.outputs[name]
        told.add(refused.stop_reason)
    assert len(told) == 1
    assert str(told.pop()).startswith("scorpio:ttft_infeasible")
