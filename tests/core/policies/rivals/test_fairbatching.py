"""`fairbatching`: who comes before the prompts, who after them, and who sits out, case by case."""

from __future__ import annotations

import pytest

from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.fairbatching.batch import Shifts
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import NO_SLO, OnMiss, Slo
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import (
    NOW_S,
    PROFILES,
    Row,
    Scene,
    limits,
    running_batch,
    snapshot,
)

LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)
URGENT, LATER = Slo(1.0, 0.05), Slo(60.0)


def ask(name: str, slo: Slo = LATER, prompt: int = 100, waited_s: float = 0.0) -> RequestView:
    return RequestView(name, int(name[1:]), NOW_S - waited_s, prompt, 4000, slo)


def at_risk(prompt: int = 5000) -> tuple[RequestView, RequestView]:
    """Each could have its first token in 0.3 s, both could not, and neither may be refused."""
    soon = Slo(prompt * 5.3e-5 * 1.5, on_miss=OnMiss.WAIT)
    return ask("r20", soon, prompt), ask("r21", soon, prompt)


def decode(name: str, slo: Slo, ahead_s: float = 0.0) -> Row:
    """Nine tokens; the next one is due in S + `ahead_s`. Its first one came 0.1 s after arrival."""
    waited_s = 0.1 + (0.0 if slo is NO_SLO else 8 * slo.tpot_s) - ahead_s
    return Row(ask(name, slo, 100, waited_s), int(name[1:]), False, 500, 100, 9)


def plan(
    *waiting: RequestView, running: tuple[Row, ...] = (), token_budget: int = 2048, **options: float
) -> StepPlan:
    engine = limits(max_num_seqs=8, token_budget=token_budget, kv_tokens=100_000)
    policy = make_policy("fairbatching", PolicyInputs(PROFILES["a100"], engine, options))
    scene = Scene(engine, running, tuple((v, False) for v in waiting), NOW_S)
    return policy.plan(NOW_S, snapshot(policy, scene))


def test_nothing_to_prefill_is_a_stock_step() -> None:
    assert plan() is STOCK_STEP
    assert plan(running=(decode("r1", URGENT),)) is STOCK_STEP


def test_the_budget_is_the_time_of_the_most_urgent_decode() -> None:
    # Of 50 ms, 45 may be used. A decode alone takes 11.67 ms; 95 tokens up to the knee 2.85 ms.
    answer = plan(ask("r2", prompt=5000), running=(decode("r1", URGENT),))
    assert answer.admit == ["r2"]
    assert answer.token_budget == 1 + 95 + int((0.045 - 0.01452) / 5.3e-5)


def test_the_earliest_deadline_goes_first_and_what_is_lost_last() -> None:
    lost = ask("r1", Slo(0.5, on_miss=OnMiss.WAIT), 100, waited_s=1.0)
    answer = plan(lost, ask("r2", Slo(9.0), 200), ask("r3", Slo(4.0), 900))
    assert answer.admit == ["r3", "r2", "r1"]
    assert not answer.reject


def test_a_decode_ahead_of_its_envelope_gives_way_to_a_prompt_at_risk() -> None:
    rows = decode("r1", URGENT), decode("r2", URGENT, ahead_s=0.1)
    answer = plan(*at_risk(), running=rows)
    assert list(answer.skip_decode) == [1]
    one = plan(*at_risk(), running=(rows[0],))
    assert answer.token_budget == one.token_budget  # all that it leaves is the prompt's
    assert list(plan(ask("r3", prompt=5000), running=rows).skip_decode) == []


@pytest.mark.parametrize(("ahead_s", "skipped"), [(0.094, []), (0.0951, [1])])
def test_ahead_means_two_tokens_to_spare_when_the_step_ends(
    ahead_s: float, skipped: list[int]
) -> None:
    rows = decode("r1", URGENT), decode("r2", URGENT, ahead_s)
    assert list(plan(*at_risk(), running=rows).skip_decode) == skipped


def test_one_ahead_decodes_all_the_same_when_the_prompts_leave_time() -> None:
    """Both prompts fit into the step, and yet a first token in time is at risk."""
    rows = decode("r1", URGENT), decode("r2", URGENT, ahead_s=0.4)
    answer = plan(*at_risk(prompt=100), running=rows)
    assert list(answer.skip_decode) == []
    assert answer.token_budget == 202


def test_the_least_ahead_is_the_first_to_find_a_place() -> None:
    profile, engine = PROFILES["a100"].step, limits(8, 100, 100_000)
    rows = decode("r1", URGENT), decode("r2", URGENT, 0.3), decode("r3", URGENT, 0.2)
    running = running_batch(rows)
    step = StepTime.of(profile, Snapshot(running, WaitingTable(), engine, 100_000), NOW_S)
    shifts = Shifts.of(running, step, step.limit_s, 2.0)
    fill = shifts.urgent_first(profile, step.limit_s, 100)
    fill.add(98)
    assert shifts.rest(profile, fill, step.limit_s, 100) == [1]
    assert fill.tokens == 100


def test_never_all_decodes_sit_out_and_none_without_a_promise() -> None:
    rows = decode("r1", Slo(1.0, 0.05), 0.3), decode("r2", Slo(1.0, 0.05), 0.2)
    answer = plan(*at_risk(), running=rows, slack_share=0.1)
    assert list(answer.skip_decode) == [0]
    assert list(plan(*at_risk(), running=(decode("r1", NO_SLO),)).skip_decode) == []


def test_what_the_engine_teaches_is_used() -> None:
    policy = make_policy("fairbatching", PolicyInputs(PROFILES["a100"], LIMITS, {}))
    scene = Scene(LIMITS, (decode("r1", URGENT),), ((ask("r2", prompt=5000), False),), NOW_S)
    before = policy.plan(NOW_S, snapshot(policy, scene)).token_budget
    for _ in range(50):  # twice as slow as the profile says
        sample = StepSample(0, 0.0, 0.0, 1, 500, 2.0 * PROFILES["a100"].step.step_s(1, 500.0))
        policy.observe(sample)
    after = policy.plan(NOW_S, snapshot(policy, scene)).token_budget
    assert before is not None
    assert after is not None
    assert after < before
