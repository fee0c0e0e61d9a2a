"""The ablation of the paper: each guard of `scorpio-paper` on its own, by hand."""

from __future__ import annotations

import pytest

from scorpio.core.plan import StepPlan
from scorpio.core.policy import Policy
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from tests.conformance.snapshots import NOW_S, PROFILES, Row, Scene, limits, snapshot

LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)
CROWDED = Slo(9.0, 0.0156)  # so tight that a fifth one does not fit beside four
LATE = Slo(0.06, 0.05)  # 2000 tokens alone take 0.11 s
IN_TIME = Slo(5.0, 0.0156)


def with_guards(ttft: float, tpot: float) -> Policy:
    options = {"ttft_guard": ttft, "tpot_guard": tpot}
    return make_policy("scorpio-paper", PolicyInputs(PROFILES["a100"], LIMITS, options))


def decided(ttft: float, tpot: float) -> StepPlan:
    """Four crowded decodes and one slow one run; one that is late waits, and one that is not."""
    views = [RequestView(f"r{i}", i, NOW_S, 100, 50, CROWDED) for i in range(4)]
    slow = RequestView("r4", 4, NOW_S, 100, 50, Slo(9.0, 0.05))
    running = tuple(Row(v, i, False, 500, 100, 9) for i, v in enumerate([*views, slow]))
    late = RequestView("r5", 5, NOW_S, 2000, 50, LATE)
    in_time = RequestView("r6", 6, NOW_S, 100, 50, IN_TIME)
    policy = with_guards(ttft, tpot)
    return policy.plan(
        NOW_S, snapshot(policy, Scene(LIMITS, running, ((in_time, False), (late, False))))
    )


@pytest.mark.parametrize(
    ("ttft", "tpot", "admitted", "refused", "skips"),
    [
        (1, 1, [], ["r5"], True),
        (1, 0, ["r6"], ["r5"], False),
        (0, 1, [], [], True),
        (0, 0, ["r5", "r6"], [], False),
    ],
)
def test_each_guard_decides_its_own_part(
    ttft: float, tpot: float, admitted: list[str], refused: list[str], skips: bool
) -> None:
    plan = decided(ttft, tpot)
    assert list(plan.admit or ()) == admitted
    assert [r.request_id for r in plan.reject] == refused
    assert bool(plan.skip_decode) == skips


def test_without_the_ttft_guard_the_queue_is_in_order_of_arrival() -> None:
    urgent = RequestView("r1", 1, NOW_S, 100, 50, Slo(0.5, 0.05))
    assert with_guards(0, 1).queue_key(urgent) == urgent.arrival_s
    assert with_guards(1, 0).queue_key(urgent) == urgent.deadline_s


@pytest.mark.parametrize("name", ["ttft_guard", "tpot_guard"])
def test_a_switch_is_on_or_off(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 0 or 1, got 0.5"):
        make_policy("scorpio-paper", PolicyInputs(PROFILES["a100"], LIMITS, {name: 0.5}))
