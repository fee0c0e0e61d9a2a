"""Do tenants of one class get work by their weights? On vLLM's real scheduler, in virtual time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.slo import XARG_CLASS, XARG_TENANT, XARG_WEIGHT, Slo
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.twin.engine.arrivals import Arrival
from tests.twin.driving import drive

SECONDS, WARM_S = 45.0, 15.0
TTFT_S, TPOT_S = 3.0, 0.2
STEP = StepModel(0.010, 0.0, 0.0001, 10.0, 0.0, 0.0, 0.0)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "tests")
SETTINGS = {
    "policy": "scorpio",
    "latency": PROFILE.to_dict(),
    "classes": {"chat": {"ttft_ms": TTFT_S * 1e3, "tpot_ms": TPOT_S * 1e3}},
}
TOLERANCE = 0.15  # of the ratio, over 30 s: a request is a 500th of that


def arrivals(rates: Mapping[str, float], weights: Mapping[str, str]) -> list[Arrival]:
    """Poisson, of each tenant by itself."""
    found = []
    for tenant, rate in rates.items():
        rng, at_s = random.Random(tenant), 0.0
        while (at_s := at_s + rng.expovariate(rate)) < SECONDS:
            found.append((at_s, tenant))
    return [
        Arrival(
            number, at_s, 200, 20, 64, Slo(TTFT_S, TPOT_S), "chat", tenant,
            {XARG_TENANT: f"{tenant}/", XARG_CLASS: "chat"}
            | ({XARG_WEIGHT: weights[tenant]} if tenant in weights else {}),
        )
        for number, (at_s, tenant) in enumerate(sorted(found))
    ]  # fmt: skip


def work(rates: Mapping[str, float], weights: Mapping[str, str]) -> Counter[str]:
    """Tokens of each tenant, prompts and answers; once the shares are known."""
    load = arrivals(rates, weights)
    loop = drive(load, scheduler_cls=VirtualScorpioScheduler, settings=SETTINGS)
    got: Counter[str] = Counter()
    for entry in loop.ledger.entries.values():
        if entry.tokens and entry.arrival.arrival_s > WARM_S:
            got[entry.arrival.tenant] += entry.arrival.prompt_tokens + entry.tokens
    return got


@pytest.mark.timeout(300)
def test_two_that_ask_for_more_than_there_is_get_three_to_one() -> None:
    both = {"a": 30.0, "b": 30.0}  # the engine does about 18 requests/s
    got = work(both, {"a": "3.0", "b": "1.0"})
    assert got["a"] / got["b"] == pytest.approx(3.0, rel=TOLERANCE)
    even = work(both, {"a": "1.0", "b": "1.0"})
    assert even["a"] / even["b"] == pytest.approx(1.0, rel=TOLERANCE)
    assert got.total() > 0.95 * even.total()  # shares are no less work


@pytest.mark.timeout(300)
def test_an_idle_tenant_costs_nothing() -> None:
    """To the token: one that sends nothing leaves the other what it had without weights."""
    assert work({"b": 30.0}, {"a": "3.0", "b": "1.0"}) == work({"b": 30.0}, {})
