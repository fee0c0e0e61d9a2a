"""No SLO, no refusal, on vLLM's scheduler: is every request served that asked for no time?"""

from __future__ import annotations

import pytest

from tests.engine.timed import Timed, settings

REFUSING = ["scorpio", "scorpio-paper", "mooncake", "qoserve", "qoserve+reject"]


@pytest.mark.parametrize("policy", REFUSING)
@pytest.mark.parametrize("slo", [{}, {"slo_tpot_ms": 500.0}])
def test_a_pause_or_a_long_queue_refuses_none_that_did_not_say_when(
    policy: str, slo: dict[str, object]
) -> None:
    engine = Timed(scorpio=settings() | {"policy": policy})
    engine.add("busy", 32, 2_000)
    for _ in range(3):
        engine.step()
    for number in range(40):
        engine.add(f"r{number}", 8_000, 4, **slo)  # 32 s of prefill
    engine.step()
    engine.step(90.0)  # the engine stands still, as for new weights
    engine.run_until(engine.time_s + 60.0)
    assert all(engine.finished(name) for name in engine.outputs)
    assert not any(engine.refusal(name) for name in engine.outputs)


def test_the_operators_default_class_is_a_wish_of_its_own() -> None:
    default = {"classes": {"chat": {"ttft_ms": 500.0}}, "default_class": "chat"}
    engine = Timed(scorpio=settings() | default)
    for number in range(40):
        engine.add(f"r{number}", 8_000, 4)
    engine.run_until(5.0)
    assert any(engine.refusal(name) for name in engine.outputs)
