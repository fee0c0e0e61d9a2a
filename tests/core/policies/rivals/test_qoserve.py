"""`qoserve`: chunk by slack, hybrid order, relegation, preemption of prefills, case by case."""

from __future__ import annotations

import pytest

from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.qoserve.policy import Qoserve, QoserveOptions
from scorpio.core.policies.rivals.qoserve.prefill_order import PrefillOrder
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import NO_SLO, Slo
from scorpio.core.snapshot import StepSample
from tests.conformance.snapshots import NOW_S, PROFILES, Row, Scene, limits, snapshot

LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)
LATER = Slo(60.0)


def ask(name: str, slo: Slo = LATER, prompt: int = 100, waited_s: float = 0.0) -> RequestView:
    return RequestView(name, int(name[1:]), NOW_S - waited_s, prompt, 4000, slo)


def decode(name: str, slot: int, slo: Slo = NO_SLO, output: int = 9) -> Row:
    """Its first token came 0.1 s after its arrival (tests/conformance/snapshots.py)."""
    waited_s = 0.1 + 0.05 * (output - 1)
    return Row(ask(name, slo, 100, waited_s), slot, False, 500, 100, output)


def prefill(name: str, slot: int, left: int, slo: Slo = LATER, done: int = 0) -> Row:
    return Row(ask(name, slo, left + done), slot, False, done, left + done, 0)


def plan(
    *waiting: RequestView,
    running: tuple[Row, ...] = (),
    **options: float,
) -> StepPlan:
    policy = make_policy("qoserve", PolicyInputs(PROFILES["a100"], LIMITS, options))
    scene = Scene(LIMITS, running, tuple((v, False) for v in waiting), NOW_S)
    return policy.plan(NOW_S, snapshot(policy, scene))


def test_nothing_to_prefill_is_a_stock_step() -> None:
    assert plan() is STOCK_STEP
    assert plan(running=(decode("r1", 0, Slo(1.0, 0.05)),)) is STOCK_STEP


def test_chunk_by_slack_by_hand() -> None:
    # Token 10 of r1 is due at t_first + 9 * 50 ms, and t_first was 8 * 50 ms ago: in 50 ms.
    # Decode alone: 11.6 + 0.03 + 500 * 8e-5 = 11.67 ms. Up to the knee 95 * 0.03 = 2.85 ms more,
    # then (50 - 14.52) / 0.053 = 669.4: 95 + 669 tokens of prefill, and the decode.
    answer = plan(
        ask("r2", prompt=5000), running=(decode("r1", 0, Slo(1.0, 0.05)),), slack_share=1.0
    )
    assert answer.admit == ["r2"]
    assert answer.token_budget == 1 + 95 + 669


def test_a_step_that_executes_still_takes_from_the_slack() -> None:
    all_of_it = {"slack_share": 1.0}
    now = plan(ask("r2", prompt=5000), running=(decode("r1", 0, Slo(1.0, 0.05)),), **all_of_it)
    policy = make_policy("qoserve", PolicyInputs(PROFILES["a100"], LIMITS, all_of_it))
    first = Scene(LIMITS, (decode("r1", 0, Slo(1.0, 0.05)),), ())
    policy.plan(NOW_S, snapshot(policy, first))  # planned: 11.67 ms
    waiting = ((ask("r2", prompt=5000), False),)
    scene = Scene(LIMITS, first.running, waiting, NOW_S, NOW_S - 0.001)
    then = policy.plan(NOW_S, snapshot(policy, scene))
    assert now.token_budget is not None
    assert then.token_budget is not None
    assert now.token_budget - then.token_budget == pytest.approx(0.01067 / 5.3e-5, abs=1.0)


def test_no_slack_no_prefill() -> None:
    # S = 12.01 ms leaves 0.34 ms beyond the decode itself: 11 tokens; S = 11.6 ms leaves none.
    def decoding(tpot_s: float) -> Row:
        view = ask("r1", Slo(1.0, tpot_s), 100, 0.1)
        return Row(view, 0, False, 500, 100, 1)

    some = plan(ask("r2"), running=(decoding(0.01201),), slack_share=1.0)
    assert (some.admit, some.token_budget) == (["r2"], 1 + 11)
    none = plan(ask("r2"), running=(decoding(0.0116), prefill("r3", 1, 50)))
    assert (none.admit, none.token_budget, none.defer_prefill) == ([], 1, [1])


def test_a_hopeless_decode_holds_none_back() -> None:
    late = Row(ask("r1", Slo(1.0, 0.05), 100, 9.0), 0, False, 500, 100, 9)
    answer = plan(ask("r2", prompt=5000), running=(late,))
    assert answer.token_budget == 2048


def test_alpha_rises_with_the_backlog() -> None:
    order = PrefillOrder(0.001, 0.008, 2.0)
    assert [order.alpha_s(s) for s in (0.0, 1.0, 2.0, 9.0)] == pytest.approx(
        [0.001, 0.0045, 0.008, 0.008]
    )


def test_hybrid_order_by_hand() -> None:
    # r1 is due in 4 s with 3000 tokens, r2 in 5 s with 100. EDF: r1; with 1 ms per token
    # 4 + 3 = 7 > 5 + 0.1: r2 goes first.
    asked = (ask("r1", Slo(4.0), 3000), ask("r2", Slo(5.0), 100))
    edf = plan(*asked, alpha_low_ms=0.0, alpha_high_ms=0.0)
    assert list(edf.admit or ()) == ["r1"]  # its chunk fills the step
    assert list(plan(*asked).admit or ()) == ["r2", "r1"]


def test_relegated_ones_are_served_last_and_never_refused() -> None:
    # 0.5 s are over for r1; r3 can no longer compute 9000 tokens in 0.3 s.
    asked = (ask("r1", Slo(0.5), 100, 1.0), ask("r2", Slo(9.0), 200), ask("r3", Slo(0.3), 9000))
    answer = plan(*asked)
    assert answer.admit == ["r2", "r1", "r3"]
    assert not answer.reject


def test_relegation_uses_the_measured_prefill_rate() -> None:
    policy = make_policy("qoserve", PolicyInputs(PROFILES["a100"], LIMITS, {}))
    scene = Scene(LIMITS, (), ((ask("r1", Slo(0.5), 2000), False), (ask("r2"), False)))
    assert next(iter(policy.plan(NOW_S, snapshot(policy, scene)).admit or ())) == "r1"
    for _ in range(100):  # 1 ms per token beside the decodes: 2 s
        policy.observe(StepSample(100, 0.0, 0.0, 50, 5000, 0.1))
    assert policy.plan(NOW_S, snapshot(policy, scene)).admit == ["r2", "r1"]


def test_a_long_prefill_yields_to_a_short_urgent_one() -> None:
    long = prefill("r1", 0, 8000)
    answer = plan(ask("r2", Slo(0.5), 300), running=(long,))
    assert answer.admit == ["r2"]
    assert answer.defer_prefill == [0]
    assert answer.token_budget == 300
    assert plan(ask("r2", Slo(0.5), 300), running=(long,), preempt=0.0).defer_prefill == []


def test_a_prefill_that_can_be_finished_need_not_yield() -> None:
    answer = plan(ask("r2", Slo(0.5), 300), running=(prefill("r1", 0, 1000),))
    assert (answer.admit, answer.defer_prefill, answer.token_budget) == (["r2"], [], 1300)


def test_no_request_overtakes_whose_kv_does_not_fit() -> None:
    long = prefill("r1", 0, 8000, done=90_000)  # 10,000 of 100,000 tokens are free
    answer = plan(ask("r2", Slo(5.0), 9500), running=(long,))
    assert answer.defer_prefill == []


def test_a_part_of_a_prefill_does_not_starve_decodes_behind_it() -> None:
    """vLLM gives it all that is left of the budget, theirs included."""
    urgent = decode("r2", 1, Slo(1.0, 0.05))
    assert plan(running=(prefill("r1", 0, 8000), urgent)).defer_prefill == [0]
    assert plan(running=(urgent, prefill("r1", 0, 8000))).defer_prefill == []
    # With no promise it may miss a step.
    assert plan(running=(prefill("r1", 0, 8000), decode("r2", 1))).defer_prefill == []


def test_an_unfinished_prefill_is_found_behind_any_queue() -> None:
    engine = limits(max_num_seqs=2, token_budget=256)
    policy = make_policy("qoserve", PolicyInputs(PROFILES["a100"], engine, {}))
    rows = (decode("r1", 0), prefill("r2", 1, 5000, NO_SLO))
    waiting = tuple((ask(f"r{i}", LATER, 10), False) for i in range(10, 300))
    answer = policy.plan(NOW_S, snapshot(policy, Scene(engine, rows, waiting)))
    assert answer.admit == []
    assert answer.defer_prefill == []
    assert answer.token_budget == 256


def test_options_are_in_the_units_of_their_names() -> None:
    options = QoserveOptions(alpha_low_ms=2.0, alpha_high_ms=9.0, full_load_s=7.0)
    policy = Qoserve(PROFILES["a100"], options)
    assert policy._order == PrefillOrder(0.002, 0.009, 7.0)
    assert policy._preempt is True
    assert Qoserve(PROFILES["a100"], QoserveOptions(preempt=0.0))._preempt is False
