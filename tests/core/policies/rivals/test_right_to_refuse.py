"""The right to refuse of rivals: which are refused, which are held, and what is told, by case.

`qoserve+reject` refuses what is lost, `fairbatching` the dearest.
"""

from __future__ import annotations

import pytest

from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from tests.conformance.snapshots import NOW_S, PROFILES, Row, Scene, limits, snapshot

LIMITS = limits(max_num_seqs=32, token_budget=2048, kv_tokens=100_000)


def ask(name: str, slo: Slo, prompt: int = 100, waited_s: float = 0.0) -> RequestView:
    return RequestView(
        name, int(name[1:]), NOW_S - waited_s, prompt, 4000, slo, predicted_output_tokens=100.0
    )


def decodes(count: int, tpot_s: float, context: int = 500) -> tuple[Row, ...]:
    return tuple(
        Row(ask(f"r{n}", Slo(1.0, tpot_s), 100, 0.1), n, False, context, 100, 1)
        for n in range(count)
    )


def plan(
    *waiting: RequestView, running: tuple[Row, ...] = (), name: str = "qoserve+reject"
) -> StepPlan:
    policy = make_policy(name, PolicyInputs(PROFILES["a100"], LIMITS, {}))
    scene = Scene(LIMITS, running, tuple((v, False) for v in waiting), NOW_S)
    return policy.plan(NOW_S, snapshot(policy, scene))


def refused(answer: StepPlan) -> dict[str, RejectReason]:
    return {refusal.request_id: refusal.reason for refusal in answer.reject}


def test_as_long_as_all_are_in_time_none_is_refused() -> None:
    answer = plan(ask("r40", Slo(9.0), 4000), ask("r41", Slo(0.5), 300))
    assert not answer.reject
    assert next(iter(answer.admit or ())) == "r41"


def test_what_is_late_even_as_the_next_one_is_refused() -> None:
    # 5.3e-5 s a token: 8000 tokens take 0.42 s.
    answer = plan(ask("r40", Slo(0.4), 8000), ask("r41", Slo(0.45), 1500))
    assert refused(answer) == {"r40": RejectReason.TTFT_INFEASIBLE}
    assert answer.reject[0].attainable_ttft_s == pytest.approx(9_500 * 5.3e-5, abs=0.1)
    assert (answer.reject[0].retry_after_s or 0.0) >= 1.0
    assert answer.admit == ["r41"]


def test_what_could_be_the_next_one_is_not_refused_for_others() -> None:
    short = [ask(f"r{n}", Slo(0.45), 1500) for n in range(41, 44)]
    assert not plan(ask("r40", Slo(0.5), 8000), *short).reject


def test_the_dearest_is_refused_for_the_others() -> None:
    # 8000 tokens take 0.42 s, and then the three short ones cannot be in time.
    short = [ask(f"r{n}", Slo(0.45), 1500) for n in range(41, 44)]
    answer = plan(ask("r40", Slo(0.44), 8000), *short, name="fairbatching")
    assert refused(answer) == {"r40": RejectReason.TTFT_INFEASIBLE}
    assert answer.reject[0].attainable_ttft_s == pytest.approx(12_500 * 5.3e-5, abs=0.15)
    assert (answer.reject[0].retry_after_s or 0.0) >= 1.0
    assert "r40" not in (answer.admit or ())


@pytest.mark.parametrize("on_miss", [OnMiss.WAIT, OnMiss.DEGRADE])
def test_one_that_may_not_be_refused_stays(on_miss: OnMiss) -> None:
    late = ask("r40", Slo(0.5, 0.05, on_miss=on_miss), 100, waited_s=9.0)
    answer = plan(late)
    assert not answer.reject
    assert answer.admit == ["r40"]


def test_a_tpot_out_of_reach_is_refused_for_good() -> None:
    answer = plan(ask("r40", Slo(9.0, 0.001)), ask("r41", Slo(9.0, 0.05)))
    assert refused(answer) == {"r40": RejectReason.TPOT_INFEASIBLE}
    assert answer.admit == ["r41"]


def test_a_tpot_that_the_batch_would_not_keep_waits() -> None:
    # 20 decodes with 4,000 tokens each: a step takes 18.6 ms.
    busy = decodes(20, 0.05, 4000)
    answer = plan(ask("r40", Slo(9.0, 0.015)), ask("r41", Slo(9.0, 0.05)), running=busy)
    assert not answer.reject
    assert answer.admit == ["r41"]
    assert plan(ask("r40", Slo(9.0, 0.015))).admit == ["r40"]


@pytest.mark.parametrize(
    ("on_miss", "gone"), [(OnMiss.REJECT, "r1"), (OnMiss.WAIT, "r40"), (OnMiss.DEGRADE, "r40")]
)
def test_an_unfinished_prefill_counts_and_is_refused_where_it_may_be(
    on_miss: OnMiss, gone: str
) -> None:
    begun = Row(ask("r1", Slo(0.3, on_miss=on_miss), 5000), 0, False, 0, 5000, 0)
    answer = plan(ask("r40", Slo(0.35), 3000), running=(begun,), name="fairbatching")
    assert list(refused(answer)) == [gone]
    assert list(plan(ask("r40", Slo(0.35), 3000), name="fairbatching").reject) == []
