"""Is a prefix-cache hit worth the same to every policy that estimates prefill?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.plan import StepPlan
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import NOW_S, Row, Scene, limits, proven, snapshot

# 10 ms a step, 0.1 ms a token, attention to a prefix too small to matter to a first token.
STEP = StepModel(0.010, 1e-4, 1e-4, 96.0, 0.0, 1e-10, 0.0)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "hand")
LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)
REFUSERS = ("scorpio", "scorpio-paper", "mooncake")
SLO = Slo(0.5, 0.05)


def ask(number: int, prompt: int, cached: int = 0, slo: Slo = SLO) -> RequestView:
    return RequestView(f"r{number}", number, NOW_S, prompt, 64, slo, cached_tokens=cached)


def plan(name: str, *waiting: RequestView, kv_tokens: int = 100_000) -> StepPlan:
    size = replace(LIMITS, kv_tokens=kv_tokens)
    # Its next token, the 32nd, is due in 50 ms.
    decoding = replace(ask(0, 10), arrival_s=NOW_S - 0.1 - 30 * 0.05)
    running = (Row(decoding, 0, False, 40, 10, 31),)
    strict = {"light_debt": 0.0} if name == "scorpio" else {}  # no late decode at light load
    policy = make_policy(name, PolicyInputs(PROFILE, size, strict))
    if name == "scorpio":
        policy = proven(policy, PROFILE)
    scene = Scene(size, running, tuple((view, False) for view in waiting))
    return policy.plan(NOW_S, snapshot(policy, scene))


@pytest.mark.parametrize("name", REFUSERS)
def test_a_cached_prompt_is_in_time_where_a_new_one_is_not(name: str) -> None:
    """8,000 tokens take 0.8 s and are due in 0.5 s; 800 of them take 0.08 s."""
    assert [r.request_id for r in plan(name, ask(1, 8000)).reject] == ["r1"]
    assert not plan(name, ask(1, 8000, 7200)).reject


@pytest.mark.parametrize("name", REFUSERS)
def test_hits_ahead_of_one_are_not_waited_for(name: str) -> None:
    def refused(cached: int) -> list[str]:
        ahead = [ask(number, 1500, cached, Slo(0.4, 0.05)) for number in (1, 2, 3)]
        return [r.request_id for r in plan(name, *ahead, ask(4, 1500)).reject]

    assert refused(0)
    assert not refused(1400)


def test_qoserve_relegates_by_the_work_that_is_left() -> None:
    new, cached = ask(1, 8000), ask(2, 8000, 7900)
    assert plan("qoserve", new, cached).admit == ["r2", "r1"]  # r1 cannot be in time


@pytest.mark.parametrize("name", ["scorpio", "qoserve"])
def test_the_step_is_packed_with_work_not_with_hits(name: str) -> None:
    """Two prompts with little left start in one step, within the slack of the decode."""
    both = plan(name, ask(1, 1000, 950), ask(2, 1000, 950))
    assert both.stock or list(both.admit or ()) == ["r1", "r2"]
    one = plan(name, ask(1, 1000), ask(2, 1000))
    assert list(one.admit or ()) == ["r1"]


@pytest.mark.parametrize("name", ["sjf", "edf"])
def test_more_prompts_can_start_in_a_step_when_they_are_cached(name: str) -> None:
    new = [ask(number, 6000) for number in range(1, 6)]
    cached = [replace(view, cached_tokens=5900) for view in new]
    assert len(plan(name, *new).admit or ()) < len(plan(name, *cached).admit or ()) == 5


@pytest.mark.parametrize("name", ["scorpio", "scorpio-paper"])
def test_a_prompt_beyond_the_pool_is_refused_whatever_is_cached(name: str) -> None:
    """Hits need their blocks too."""
    (refused,) = plan(name, ask(1, 2000, 1900), kv_tokens=1500).reject
    assert refused.reason.value == "kv_infeasible"


def test_a_newer_value_takes_the_place_of_the_old() -> None:
    table = WaitingTable()
    views = [ask(number, 100 + number) for number in range(5)]
    for view in views:
        table.add(view, 0.0)
    table.recache(replace(views[3], cached_tokens=64))
    assert table.cached_tokens.tolist() == [0, 0, 0, 64, 0]
    assert table.prefill_tokens.tolist() == [100, 101, 102, 39, 104]
    assert table[3].cached_tokens == 64
    assert table.prompt_tokens[3] == 103
