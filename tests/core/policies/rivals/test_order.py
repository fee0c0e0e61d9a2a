"""`edf` and `sjf`: is the order right, and is none refused or held?"""

from __future__ import annotations

import dataclasses
import math

import pytest

from scorpio.core.plan import STOCK_STEP
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import NO_SLO, Slo
from tests.conformance.snapshots import NOW_S, PROFILES, Row, Scene, limits, policy_for, snapshot

LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)


def ask(
    name: str,
    slo: Slo = NO_SLO,
    predicted: float = math.nan,
    waited_s: float = 0.0,
    prompt: int = 9,
) -> RequestView:
    seq = int(name[1:])
    return RequestView(name, seq, NOW_S - waited_s, prompt, 400, slo, "", "", predicted)


def admitted(name: str, *waiting: RequestView, running: tuple[Row, ...] = ()) -> list[str]:
    policy = policy_for(name, LIMITS)
    plan = policy.plan(
        NOW_S, snapshot(policy, Scene(LIMITS, running, tuple((v, False) for v in waiting)))
    )
    assert not plan.reject
    assert not plan.skip_decode
    assert plan.token_budget is None
    return list(plan.admit or ())


def test_earliest_deadline_first_whichever_arrived_first() -> None:
    asked = (ask("r1", Slo(7.5), waited_s=7.2), ask("r2", Slo(0.5)), ask("r3"), ask("r4", Slo(0.2)))
    assert admitted("edf", *asked) == ["r4", "r1", "r2", "r3"]


def test_late_ones_are_served_all_the_same() -> None:
    asked = (ask("r1", Slo(0.5)), ask("r2", Slo(0.5), waited_s=60.0))
    assert admitted("edf", *asked) == ["r2", "r1"]


def test_shortest_prediction_first_and_unknown_is_max_tokens() -> None:
    asked = (ask("r1", predicted=300.0), ask("r2"), ask("r3", predicted=20.0))
    assert admitted("sjf", *asked) == ["r3", "r1", "r2"]


def test_ageing_by_hand() -> None:
    # 10 tokens per second: 300 - 10 * 28.1 = 19 now goes before a new one of 20, 28 s do not do.
    young = ask("r2", predicted=20.0)
    assert admitted("sjf", ask("r1", predicted=300.0, waited_s=28.1), young) == ["r1", "r2"]
    assert admitted("sjf", ask("r1", predicted=300.0, waited_s=27.9), young) == ["r2", "r1"]


@pytest.mark.parametrize("name", ["edf", "sjf"])
def test_no_more_than_could_start_and_stock_when_none_waits(name: str) -> None:
    policy = policy_for(name, LIMITS)
    assert policy.plan(NOW_S, snapshot(policy, Scene(LIMITS, (), ()))) is STOCK_STEP
    many = tuple(ask(f"r{i}", Slo(1.0 + i)) for i in range(20))
    busy = Row(ask("r99"), 0, False, 9, 9, 1)
    assert len(admitted(name, *many, running=(busy,))) == 7  # the free seats
    # 4 steps of 2048 tokens: two prompts of 4000 and the one that crosses the line.
    big = tuple(dataclasses.replace(view, prompt_tokens=4000) for view in many)
    assert len(admitted(name, *big)) == 3


def test_ageing_has_a_range() -> None:
    inputs = PolicyInputs(PROFILES["a100"], LIMITS, {"ageing_tokens_per_s": 0.0})
    with pytest.raises(ValueError, match="sjf option ageing_tokens_per_s must be in"):
        make_policy("sjf", inputs)
