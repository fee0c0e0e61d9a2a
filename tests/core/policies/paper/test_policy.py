"""Does `scorpio-paper` behave as docs/policies/scorpio-paper.md says, case by case?"""

from __future__ import annotations

import dataclasses
import math

import pytest

from scorpio.core.plan import STOCK_STEP, Rejection, RejectReason, StepPlan
from scorpio.core.policies.paper.policy import ScorpioPaper
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import NO_SLO, OnMiss, Slo
from tests.conformance.mini_engine import MiniEngine
from tests.conformance.snapshots import (
    NOW_S,
    PROFILES,
    Row,
    Scene,
    limits,
    policy_for,
    profile,
    snapshot,
)

LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)
TIGHT = Slo(1.0, 0.03)


def ask(name: str, slo: Slo = TIGHT, prompt: int = 100, predicted: float = 50.0) -> RequestView:
    return RequestView(
        name, int(name[1:]), NOW_S, prompt, 4000, slo, predicted_output_tokens=predicted
    )


def decode(name: str, slot: int, slo: Slo = TIGHT, computed: int = 500) -> Row:
    return Row(
        ask(name, slo), slot, joined=False, computed=computed, to_compute=100, output_tokens=9
    )


def prefill(name: str, slot: int, slo: Slo = TIGHT, prompt: int = 3000) -> Row:
    return Row(ask(name, slo, prompt), slot, False, 0, prompt, 0)


def paper() -> ScorpioPaper:
    policy = policy_for("scorpio-paper", LIMITS)
    assert isinstance(policy, ScorpioPaper)
    return policy


def plan(
    *waiting: RequestView, running: tuple[Row, ...] = (), started: tuple[RequestView, ...] = ()
) -> StepPlan:
    policy = paper()
    scene = Scene(LIMITS, running, (*((v, False) for v in waiting), *((v, True) for v in started)))
    return policy.plan(NOW_S, snapshot(policy, scene))


# -- order and gate ----------------------------------------------------------------------------


def test_least_deadline_first_and_no_deadline_last() -> None:
    asked = [ask("r1", NO_SLO), ask("r2", Slo(5.0)), ask("r3", Slo(0.5)), ask("r4", NO_SLO)]
    assert plan(*asked).admit == ["r3", "r2", "r1", "r4"]


def test_nothing_to_decide_is_a_stock_step() -> None:
    assert plan() is STOCK_STEP
    assert plan(running=(decode("r1", 0), prefill("r2", 1))) is STOCK_STEP


def test_all_without_slo_join_until_the_seats_are_taken() -> None:
    asked = [ask(f"r{i}", NO_SLO) for i in range(20)]
    answer = plan(*asked, running=(decode("r90", 3, NO_SLO),))
    assert answer.admit == [f"r{i}" for i in range(7)]
    assert not answer.reject


def test_no_more_prompts_than_four_steps_can_start() -> None:
    # 2048 * 4 = 8192 tokens: after two prompts of 4000 one more may cross the line.
    asked = [ask(f"r{i}", Slo(60.0), prompt=4000) for i in range(6)]
    assert plan(*asked).admit == ["r0", "r1", "r2"]


def test_preempted_ones_are_left_to_the_engine_but_take_their_seats() -> None:
    back = tuple(ask(f"r{i}", NO_SLO) for i in range(5))
    answer = plan(*(ask(f"r{i}", NO_SLO) for i in range(10, 20)), started=back)
    assert answer.admit == ["r10", "r11", "r12"]


# -- TTFT guard --------------------------------------------------------------------------------


def test_late_request_is_refused_with_the_time_it_would_take() -> None:
    # n tokens take 11.6 ms + 96 * 0.03 ms = 14.48 ms, plus 0.053 ms * (n - 96); 50 ms margin.
    ahead, own = prefill("r1", 0, Slo(9.0, 0.2), 20_000), ask("r2", Slo(0.5), 1000)
    (refused,) = plan(own, running=(ahead,)).reject
    assert refused.reason is RejectReason.TTFT_INFEASIBLE
    estimate_s = 0.05 + 0.01448 + 5.3e-5 * (21_000 - 96)
    assert refused.attainable_ttft_s == pytest.approx(estimate_s)
    assert refused.retry_after_s == pytest.approx(max(estimate_s - 0.5, 1.0))


def test_retry_after_is_what_the_queue_needs_to_drain() -> None:
    (refused,) = plan(ask("r2", Slo(0.5)), running=(prefill("r1", 0, NO_SLO, 60_000),)).reject
    assert refused.attainable_ttft_s is not None
    assert refused.attainable_ttft_s > 1.5
    assert refused.retry_after_s == pytest.approx(refused.attainable_ttft_s - 0.5)


def test_out_of_reach_even_when_idle_has_no_time_to_retry() -> None:
    (refused,) = plan(ask("r1", Slo(0.06), 2000)).reject
    assert refused.reason is RejectReason.TTFT_INFEASIBLE
    assert (refused.retry_after_s, refused.never) == (None, True)


def test_refused_ones_do_not_count_for_those_behind() -> None:
    # 4000 tokens take 0.27 s, more than 0.2; then 1000 tokens take 0.11 s, in time.
    answer = plan(ask("r1", Slo(0.2), 4000), ask("r2", Slo(0.21), 1000))
    assert [r.request_id for r in answer.reject] == ["r1"]
    assert answer.admit == ["r2"]


@pytest.mark.parametrize("on_miss", [OnMiss.WAIT, OnMiss.DEGRADE])
def test_one_that_asked_not_to_be_refused_is_not(on_miss: OnMiss) -> None:
    late = ask("r1", Slo(0.06, on_miss=on_miss), 2000)
    answer = plan(late, ask("r2", Slo(5.0), 10))
    assert not answer.reject
    assert answer.admit == (["r1", "r2"] if on_miss is OnMiss.WAIT else ["r2", "r1"])


def test_preempted_ones_are_never_refused_and_count_as_queued() -> None:
    back = ask("r1", Slo(0.001), 20_000)
    answer = plan(ask("r2", Slo(0.5), 1000), started=(back,))
    assert [r.request_id for r in answer.reject] == ["r2"]


# -- TPOT guard --------------------------------------------------------------------------------


def test_the_head_blocks_those_behind() -> None:
    """The published rule (docs/policies/scorpio-paper.md): r3 would fit and is not tried."""
    running = tuple(decode(f"r{10 + i}", i, Slo(9.0, 0.0156)) for i in range(4))
    answer = plan(ask("r2", Slo(1.0, 0.0156)), ask("r3", Slo(2.0, 5.0)), running=running)
    assert answer.admit == []
    assert not answer.reject
    assert plan(ask("r3", Slo(2.0, 5.0)), running=running).admit == ["r3"]


def test_an_empty_batch_takes_its_head() -> None:
    assert plan(ask("r1", Slo(9.0, 0.0156))).admit == ["r1"]


@pytest.mark.parametrize("token_s", [3e-5, 7e-5, 1.3e-4])
def test_an_idle_engine_refuses_or_takes_its_head_even_on_a_knife_edge(token_s: float) -> None:
    """At the smallest S that is possible alone, S * (1/S) may round to more than one request."""
    policy = make_policy("scorpio-paper", PolicyInputs(profile(token_s=token_s), LIMITS))
    edge_s = 1.3 * profile(token_s=token_s).decode.tpot_s(1.0, 100.0, 50.0) / 0.99
    for ulps in range(-40, 40):
        view = ask("r1", Slo(9.0, edge_s * (1.0 + ulps * 2.0**-53)))
        answer = policy.plan(NOW_S, snapshot(policy, Scene(LIMITS, (), ((view, False),))))
        assert len(answer.reject) + len(answer.admit or ()) == 1


def test_running_prefills_are_members_of_the_batch() -> None:
    members = tuple(prefill(f"r{10 + i}", i, Slo(9.0, 0.0156), 900) for i in range(4))
    assert plan(ask("r2", Slo(9.0, 0.0156)), running=members).admit == []


@pytest.mark.parametrize("place", [0, 3])
def test_impossible_tpot_is_refused_at_once_wherever_it_waits(place: int) -> None:
    """Invariant 16."""
    asked = [ask(f"r{i}", Slo(60.0, 0.03)) for i in range(4)]
    asked[place] = ask(f"r{place}", Slo(60.0, 0.001))
    reject = plan(*asked).reject
    assert reject == [Rejection(f"r{place}", RejectReason.TPOT_INFEASIBLE, None, None, never=True)]


@pytest.mark.parametrize("on_miss", [OnMiss.WAIT, OnMiss.DEGRADE])
def test_impossible_tpot_that_may_not_be_refused_freezes_no_other(on_miss: OnMiss) -> None:
    """The tightest-TPOT attack: one 1 ms request, waiting or running, must not stop the rest."""
    mad = Slo(60.0, 0.001, on_miss=on_miss)
    assert plan(ask("r1", mad), ask("r2", Slo(61.0, 0.05))).admit == ["r1", "r2"]
    answer = plan(ask("r2", Slo(61.0, 0.05)), running=(decode("r1", 0, mad),))
    assert answer.admit == ["r2"]


def test_length_unknown_means_max_tokens() -> None:
    # S = 15.6 ms alone: 1.3 * (11.63 + 8e-5 * (100 + out / 2)) <= 15.444 ms iff out <= 6050 or so
    long = dataclasses.replace(ask("r1", Slo(9.0, 0.0156), predicted=math.nan), max_tokens=9000)
    assert [r.reason for r in plan(long).reject] == [RejectReason.TPOT_INFEASIBLE]
    assert plan(dataclasses.replace(long, max_tokens=1000)).admit == ["r1"]
    assert plan(dataclasses.replace(long, predicted_output_tokens=100.0)).admit == ["r1"]


@pytest.mark.parametrize("on_miss", list(OnMiss))
def test_prompt_larger_than_the_kv_pool_is_refused_for_good(on_miss: OnMiss) -> None:
    fits, too_long = (
        ask("r1", Slo(on_miss=on_miss), 99_999),
        ask("r2", Slo(on_miss=on_miss), 100_000),
    )
    answer = plan(fits, too_long)
    assert answer.reject == [Rejection("r2", RejectReason.KV_INFEASIBLE, None, None, never=True)]
    assert answer.admit == ["r1"]


# -- credit-based batching ---------------------------------------------------------------------


def skips(policy: ScorpioPaper, rows: tuple[Row, ...], steps: int) -> list[set[str]]:
    seen = snapshot(policy, Scene(LIMITS, rows, ()))
    names = [row.view.request_id for row in rows]
    return [{names[i] for i in policy.plan(NOW_S, seen).skip_decode} for _ in range(steps)]


def test_shares_of_the_steps_by_hand() -> None:
    # min S = 30 ms. r1 runs always; r2 (50 ms) earns 0.6: joins steps 2, 4, 5; r3 (60 ms) 0.5.
    rows = (decode("r1", 0), decode("r2", 4, Slo(9.0, 0.05)), decode("r3", 2, Slo(9.0, 0.06)))
    expected = [{"r2", "r3"}, set(), {"r2", "r3"}, set(), {"r3"}]
    assert skips(paper(), rows, 5) == expected


def test_tightest_follows_the_running_decodes_at_once() -> None:
    """Invariant 7: the tight one aborts, and none sits out any more."""
    policy, slow = paper(), decode("r2", 4, Slo(9.0, 0.06))
    assert skips(policy, (decode("r1", 0), slow), 1) == [{"r2"}]
    assert skips(policy, (slow,), 5) == [set()] * 5


def test_a_prefill_is_neither_skipped_nor_counted_in_the_tightest() -> None:
    rows = (prefill("r1", 0, Slo(9.0, 0.02)), decode("r2", 1, Slo(9.0, 0.06)))
    assert skips(paper(), rows, 5) == [set()] * 5


def test_credit_is_forgotten_by_the_next_owner_of_the_slot() -> None:
    policy = paper()
    slow = decode("r2", 4, Slo(9.0, 0.06))
    skips(policy, (decode("r1", 0), slow), 1)  # r2 has 0.5 now
    newcomer = dataclasses.replace(decode("r3", 4, Slo(9.0, 0.06)), joined=True)
    assert skips(policy, (decode("r1", 0), newcomer), 1) == [{"r3"}]


def test_without_tpot_slo_a_decode_still_runs_now_and_then() -> None:
    policy = paper()
    history = skips(policy, (decode("r1", 0), decode("r2", 1, NO_SLO)), 1000)
    assert sum("r2" not in skipped for skipped in history) == 30  # 30 ms / 1 s of the steps


def test_an_eligible_decode_runs_within_its_share_in_a_real_mix() -> None:
    """Invariant 9 over whole lives, with prefills and arrivals in between."""
    engine = MiniEngine(paper(), LIMITS, PROFILES["a100"])
    slos = (0.03, 0.05, 0.2, 0.08)
    for i in range(40):
        engine.arrive(
            dataclasses.replace(ask(f"r{i}", Slo(60.0, slos[i % 4])), arrival_s=0.0), 20 + i
        )
    waits: dict[str, int] = {}
    while engine.rows or len(engine.waiting):
        batch = list(engine.rows)
        decoding = [row for row in batch if row.is_decode]
        skipped = {batch[i].view.request_id for i in engine.step().skip_decode}
        for row in decoding:
            name = row.view.request_id
            waits[name] = waits.get(name, 0) + 1 if name in skipped else 0
            assert waits[name] < math.ceil(row.view.slo.tpot_s / min(slos) - 1e-9)
    assert all(life.produced == life.will_produce for life in engine.lives.values())


def test_four_steps_of_prompts_are_named_and_no_more() -> None:
    for first, named in ((1024, ["r1"]), (1023, ["r1", "r2"])):
        engine = limits(max_num_seqs=8, token_budget=256, kv_tokens=100_000)
        policy = policy_for("scorpio-paper", engine)
        views = [RequestView(f"r{n}", n, NOW_S, tokens, 50, Slo())
                 for n, tokens in ((1, first), (2, 10), (3, 10))]  # fmt: skip
        made = policy.plan(
            NOW_S, snapshot(policy, Scene(engine, (), tuple((v, False) for v in views)))
        )
        assert list(made.admit or ()) == named


def test_one_that_is_late_behind_preempted_ones_is_the_one_refused() -> None:
    policy = policy_for("scorpio-paper", LIMITS)
    back, late = (RequestView(f"r{n}", n, NOW_S, 5000, 50, Slo(0.01)) for n in (1, 2))
    late = dataclasses.replace(late, slo=Slo(0.2))
    later = RequestView("r3", 3, NOW_S, 10, 50, Slo(600.0))
    waiting = ((back, True), (late, False), (later, False))
    made = policy.plan(NOW_S, snapshot(policy, Scene(LIMITS, (), waiting)))
    assert [told.request_id for told in made.reject] == ["r2"]
