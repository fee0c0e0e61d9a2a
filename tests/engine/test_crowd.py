"""Is what many refused clients are told at once still true when all of them obey?"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest

from scorpio.core.latency import StepModel
from scorpio.core.wire import RejectionNotice
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.timed import Timed, settings

# About an A100 with an 8B model.
STEP = StepModel(0.0131, 3e-5, 5.3e-5, 96.0, 1.8e-9, 2.8e-9, 8.4e-8)
SPEC = EngineSpec(pipeline_depth=1, max_num_batched_tokens=2048, max_model_len=16_384)
SLOS_MS = ((500.0, 30.0), (500.0, 50.0), (2000.0, 30.0), (3000.0, 50.0), (7500.0, 50.0))
MOST_RETRY_S = 30.0  # what HTTP tells


@dataclass(frozen=True, order=True)
class Ask:
    at_s: float
    number: int
    prompt: int
    output: int
    ttft_ms: float
    tpot_ms: float
    tries: int = 0


def asks(burst: int, per_second: float, seconds: float) -> list[Ask]:
    """So many at once, or Poisson arrivals; lengths and SLOs at random."""
    rng, made, at_s = np.random.default_rng(0), list[Ask](), 0.0
    while len(made) < burst or (per_second and at_s < seconds):
        at_s += 0.0 if len(made) < burst else float(rng.exponential(1.0 / per_second))
        prompt = min(int(rng.lognormal(6.5, 0.8)) + 1, 12_000)
        output = min(int(rng.lognormal(5.0, 0.6)) + 1, 1000)
        made.append(Ask(at_s, len(made), prompt, output, *SLOS_MS[rng.integers(len(SLOS_MS))]))
    return made


def again(ask: Ask, told: RejectionNotice, now_s: float, how: str) -> Ask | None:
    """What a client does that believes what it is told; None: it does not come back."""
    assert told.attainable_ttft_ms is not None
    if how == "in time":
        if told.retry_after_ms is None:
            return None
        back_s = min(told.retry_after_ms / 1e3, MOST_RETRY_S)
        return replace(ask, at_s=now_s + back_s, tries=ask.tries + 1)
    ttft_ms = max(ask.ttft_ms, float(told.attainable_ttft_ms))
    return replace(ask, at_s=now_s + 0.02, ttft_ms=ttft_ms, tries=ask.tries + 1)


def second_tries(load: list[Ask], how: str, spec: EngineSpec = SPEC) -> tuple[int, int]:
    """(served, refused) of those that were refused once and did as they were told."""
    engine, due, live = Timed(STEP, settings(STEP), spec=spec), list(load), dict[str, Ask]()
    served = refused = 0
    heapq.heapify(due)
    while due or live:
        while due and due[0].at_s <= engine.time_s:
            ask = heapq.heappop(due)
            name = f"r{ask.number}-{ask.tries}"
            slo = {"slo_ttft_ms": ask.ttft_ms, "slo_tpot_ms": ask.tpot_ms}
            engine.add(name, ask.prompt, ask.output, **slo)
            live[name] = ask
        if engine.scheduler.has_requests():
            engine.step()
        elif due:
            engine.wait(due[0].at_s - engine.time_s + 1e-9)
        for name in [name for name in live if engine.finished(name)]:
            ask, told = live.pop(name), engine.refusal(name)
            refused += bool(ask.tries and told)
            served += bool(ask.tries and not told)
            if told and not ask.tries and (back := again(ask, told, engine.time_s, how)):
                heapq.heappush(due, back)
    assert not engine.scorpio.telemetry.fallbacks
    return served, refused


@pytest.mark.parametrize("how", ["in time", "with what was offered"])
@pytest.mark.parametrize(("burst", "per_second"), [(150, 0.0), (0, 18.0)])
def test_one_that_obeys_is_served_at_the_next_try(
    burst: int, per_second: float, how: Literal["in time", "with what was offered"]
) -> None:
    served, refused = second_tries(asks(burst, per_second, 24.0), how)
    assert served + refused >= 20
    assert served >= 0.95 * (served + refused)


def test_where_kv_is_short_it_is_offered_when_it_comes_free() -> None:
    """A pool of 40,000 tokens; the prompts alone are three times that."""
    small = replace(SPEC, num_blocks=2500, max_model_len=8192)
    load = [ask for ask in asks(150, 0.0, 12.0) if ask.prompt < 7000]
    served, refused = second_tries(load, "with what was offered", small)
    assert served + refused >= 20
    assert served >= 0.95 * (served + refused)


def test_each_of_many_refused_hears_a_time_of_its_own() -> None:
    engine = Timed(STEP, settings(STEP), spec=SPEC)
    for number in range(60):
        engine.add(f"r{number}", 2000, 20, slo_ttft_ms=1000.0, slo_tpot_ms=50.0)
    engine.run_until(1.0)
    told = [notice for name in engine.outputs if (notice := engine.refusal(name))]
    times_ms = [n.attainable_ttft_ms for n in told if n.attainable_ttft_ms]
    assert len(told) > 40
    assert times_ms == sorted(times_ms)
    assert len(set(times_ms)) == len(told)
    alone_s = 2000 * STEP.high_token_s
    assert times_ms[-1] - times_ms[0] > 1e3 * alone_s * (len(told) - 1)


def test_what_it_has_waited_is_not_part_of_what_is_offered() -> None:
    """The engine stalls for 4 s while one waits behind others."""
    engine = Timed(STEP, settings(STEP), spec=SPEC)
    engine.add("first", 2048, 50)
    engine.add("late", 2048, 50, slo_ttft_ms=3000.0)
    engine.step(4.0)
    engine.add("other", 1000, 50, slo_ttft_ms=5000.0)
    engine.run_until(engine.time_s + 1.0)
    told = engine.refusal("late")
    assert told is not None
    assert told.attainable_ttft_ms is not None
    assert told.attainable_ttft_ms < 1000
    assert told.retry_after_ms == 1000
    assert engine.refusal("other") is None
