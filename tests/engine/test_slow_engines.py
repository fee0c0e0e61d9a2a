"""Does an engine that takes seconds for a step get its work done, as a fast one does?"""

from __future__ import annotations

import math

import pytest

from scorpio.core.latency import StepModel
from scorpio.engine.virtual.requests import AsyncScheduler
from tests.engine.driver import VirtualScheduler
from tests.engine.timed import Timed, settings

FACTOR = 1.5  # of stock's time
REQUESTS, OUTPUT = 24, 40


def model(base_s: float) -> StepModel:
    """200 prompt tokens take as long as the fixed part of a step."""
    return StepModel(base_s, 0.0, base_s / 200.0, 64.0, 0.0, 0.0, 0.0)


def served_s(base_s: float, cls: type[AsyncScheduler], **slo: object) -> float:
    """Time until all have their answer; inf when some never do."""
    step = model(base_s)
    engine = Timed(step, settings(step), cls)
    for number in range(REQUESTS):
        engine.add(f"r{number}", 100, OUTPUT, **slo)
    for _ in range(20 * OUTPUT):
        if not engine.scheduler.has_requests():
            break
        engine.step()
    done = [name for name in engine.outputs if engine.finished(name)]
    assert not any(engine.refusal(name) for name in done)
    return engine.time_s if len(done) == REQUESTS else math.inf


@pytest.mark.parametrize("base_s", [0.005, 0.3, 2.0])
@pytest.mark.parametrize("slo", [{}, {"slo_ttft_ms": 3_600_000.0, "slo_on_miss": "wait"}])
def test_long_decodes_do_not_end_all_prefill(base_s: float, slo: dict[str, object]) -> None:
    stock_s = served_s(base_s, AsyncScheduler, **slo)
    assert served_s(base_s, VirtualScheduler, **slo) <= FACTOR * stock_s < math.inf
