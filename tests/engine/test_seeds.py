"""Is a seed taken off exactly where it could end the engine?"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from scorpio.engine.seeds import SeedGuard
from tests.engine.driver import Engine


def seeded(engine: Engine, request_id: str, temperature: float) -> Any:
    request = engine.request(request_id)
    assert request.sampling_params is not None
    request.sampling_params.seed = 7
    request.sampling_params.temperature = temperature
    return request


@pytest.mark.parametrize(
    ("on_cpu", "temperature", "left"), [(True, 1.0, None), (True, 0.0, 7), (False, 1.0, 7)]
)
def test_a_seed_is_taken_off_where_it_is_dangerous(
    on_cpu: bool, temperature: float, left: int | None
) -> None:
    guard, request = SeedGuard(on_cpu), seeded(Engine(), "a", temperature)
    guard.take(request)
    assert request.sampling_params.seed == left
    assert guard.dropped == (left is None)


def test_the_scheduler_does_so_on_this_cpu() -> None:
    engine = Engine()
    request = seeded(engine, "a", 1.0)
    engine.scheduler.add_request(request)
    assert request.sampling_params.seed is None
    engine.drain()
    engine.assert_drained()


def test_the_operator_is_told_once_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    guard, engine = SeedGuard(True), Engine()
    with caplog.at_level(logging.WARNING, logger="vllm.scorpio"):
        for number in range(3):
            guard.take(seeded(engine, f"r{number}", 1.0))
    assert guard.dropped == 3
    assert [r.message[:6] for r in caplog.records if "seed" in r.message] == ["`seed`"]
