"""Do requests that can no longer be good cost those that can? vLLM's scheduler, modelled time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from scorpio.core.policies.scorpio.policy import Scorpio
from tests.engine.timed import SPEC, Timed, settings

TTFT_S = 1.0
BURST, BURST_EVERY_S = 64, 4.0
ROOMY = replace(SPEC, num_blocks=20_000)  # seats run out before KV does


def honest_and_others(
    seconds: float,
    others: Mapping[str, object] | None,
    answer: int = 100,
    rate: float = 8.0,
    after_s: float = 60.0,
) -> tuple[Timed, list[str]]:
    """Honest requests at a steady rate, and bursts of others; then nothing more until all ended."""
    engine, names = Timed(scorpio=settings(), spec=ROOMY), list[str]()
    next_s, burst_s = 0.0, 1.0
    while engine.time_s < seconds:
        while next_s <= engine.time_s:
            names.append(f"honest{len(names)}")
            engine.add(names[-1], 200, 60, slo_ttft_ms=1000.0 * TTFT_S, slo_tpot_ms=60.0)
            next_s += 1.0 / rate
        if others is not None and burst_s <= engine.time_s:
            for number in range(BURST):
                engine.add(f"other{burst_s}-{number}", 500, answer, **others)
            burst_s += BURST_EVERY_S
        engine.run_until(min(engine.time_s + 1e-6, seconds))
    engine.run_until(seconds + after_s)
    return engine, names


def in_time(engine: Timed, names: list[str]) -> float:
    """Share of them, in percent."""
    kept = [n for n in names if n in engine.first_s and engine.ttft_s(n) <= TTFT_S]
    return 100.0 * len(kept) / len(names)


@pytest.mark.parametrize(
    "others",
    [
        {"slo_ttft_ms": 0.001, "slo_on_miss": "wait"},
        {"slo_ttft_ms": 0.001, "slo_on_miss": "degrade"},
        {"slo_ttft_ms": 900.0, "slo_on_miss": "wait"},  # some of each burst can be kept
        {"slo_ttft_ms": 0.001, "slo_tpot_ms": 11.0, "slo_on_miss": "wait"},
        {},
    ],
)
def test_the_honest_keep_what_they_have_and_the_others_end(others: dict[str, object]) -> None:
    engine, names = honest_and_others(12.0, others)
    alone = in_time(*honest_and_others(12.0, None))
    assert in_time(engine, names) >= alone - 5.0
    assert all(engine.finished(name) for name in engine.outputs)
    assert not any(engine.refusal(name) for name in engine.outputs if name not in names)


@pytest.mark.parametrize("others", [{"slo_ttft_ms": 0.001, "slo_on_miss": "wait"}, {}])
def test_long_answers_of_others_do_not_take_all_places(others: dict[str, object]) -> None:
    engine, names = honest_and_others(14.0, others, 3_000, 0.5, 1.0)  # 64 are all places
    assert in_time(engine, names) >= 95.0
    assert sum(name in engine.first_s for name in engine.outputs if name not in names) >= 50


def test_one_that_stands_behind_is_booked_once() -> None:
    # Eight that serve late rather than refuse; not all can be on time, and each joins once.
    engine = Timed(scorpio=settings(policy_options={"tenant_share": 1.25}))
    for number in range(8):
        engine.add(f"d{number}", 2000, 50, slo_ttft_ms=300, slo_on_miss="degrade", slo_tenant="k/d")
    for _ in range(12):
        engine.step()
    policy = engine.scorpio._policy
    assert isinstance(policy, Scorpio)
    shares = policy._tenants._equal
    assert shares._used_s
    assert shares._asked_s == pytest.approx(shares._used_s)
