"""Do the records carry what the policy forecast, and is a refusal judged by what it prevented?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from scorpio.core.plan import Forecast
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.studies.mistakes import Verdict, lines, refused_by_class, row, sampled, verdict
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.run import TwinRun, run_twin
from scorpio.twin.translate import arrivals
from tests.twin.driving import promised, toy_config, toy_step_s
from tests.workloads.test_records import record, rejected
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome

TELL = ("scorpio", "scorpio-paper", "mooncake")


def _crowd(n: int = 40, ttft_s: float = 0.5, tpot_s: float = 0.05) -> list[WorkloadRequest]:
    return [promised(i, 0.01 * i, 20 + i % 7, 5 + i % 11, ttft_s, tpot_s) for i in range(n)]


@pytest.mark.parametrize("policy", TELL)
def test_all_that_were_served_were_forecast(policy: str) -> None:
    run = run_twin(toy_config(), _crowd(), policy)
    served = [r for r in run.records if r.outcome is Outcome.FINISHED]
    assert served
    assert all(r.predicted_ttft_s and r.predicted_tpot_s for r in served)


def test_one_that_has_no_belief_tells_none() -> None:
    for policy in ("fcfs", "qoserve"):
        run = run_twin(toy_config(), _crowd(5), policy)
        assert {(r.predicted_ttft_s, r.predicted_tpot_s) for r in run.records} == {(None, None)}


def test_alone_on_a_quiet_engine_it_comes_as_forecast() -> None:
    run = run_twin(toy_config(), [promised(0, 1.5, 20, 9, 0.5, 0.05)], "scorpio")
    (one,) = run.records
    assert one.predicted_ttft_s == pytest.approx(toy_step_s(20), rel=0.1)
    assert one.predicted_ttft_s == pytest.approx(one.ttft_s, rel=0.1)
    assert one.predicted_tpot_s == pytest.approx(one.tpot_s, rel=0.1)


@pytest.mark.parametrize("policy", TELL)
def test_telling_changes_nothing(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toy_config(noise=NoiseSpec(0.05, 0.01, 0.02), lengths=LengthHint(0.6))

    def run() -> TwinRun:
        return run_twin(config, _crowd(), policy, 1)

    def unheard(self: VirtualScorpioScheduler, forecasts: Sequence[Forecast]) -> None:
        pass

    told = run()
    monkeypatch.setattr(VirtualScorpioScheduler, "_note_forecasts", unheard)
    silent = run()
    assert told.event_digest == silent.event_digest
    assert any(r.predicted_tpot_s for r in told.records)
    assert not any(r.predicted_tpot_s for r in silent.records)


def _hopeless() -> list[WorkloadRequest]:
    """5 ms is shorter than any step."""
    return [*_crowd(10, 10.0, 1.0), *(promised(i, 0.02, 20, 5, 0.005, 1.0) for i in range(10, 15))]


def test_a_refusal_leaves_the_ttft_it_named() -> None:
    run = run_twin(toy_config(), _hopeless(), "scorpio-paper")
    refused = [r for r in run.records if r.outcome is Outcome.REJECTED]
    assert {r.index for r in refused} == set(range(10, 15))
    assert all(r.predicted_ttft_s and r.predicted_ttft_s > 0.005 for r in refused)
    assert all(r.predicted_tpot_s is None for r in refused)


def test_one_request_may_not_be_refused_in_a_counterfactual() -> None:
    config = replace(toy_config(), never_refuse=frozenset({12}))
    waits = [a.index for a in arrivals(_hopeless(), config, 0) if "slo_on_miss" in a.xargs]
    assert waits == [12]
    for policy in TELL:
        run = run_twin(config, _hopeless(), policy)
        kept = next(r for r in run.records if r.index == 12)
        assert kept.outcome is Outcome.FINISHED, policy
        assert not kept.good
        assert {r.index for r in run.records if r.outcome is Outcome.REJECTED} == {10, 11, 13, 14}


def test_a_counterfactual_counts_the_one_and_the_others() -> None:
    before = [record(), record(index=1), rejected(index=2), rejected(index=3)]
    late = replace(record(index=1), ttft_slo_s=0.1)
    after = [record(), late, record(index=2), rejected(index=3)]
    assert verdict(frozenset({2}), before, after) == Verdict(met=1, others_lost=1)
    other = [*after[:2], rejected(index=2), record(index=3)]  # one lost, one gained
    assert verdict(frozenset({2}), before, other) == (0, 0)
    assert verdict(frozenset({2, 3}), before, [*after[:3], record(index=3)]) == (2, 1)


def test_the_table_by_hand() -> None:
    group = [record(), record(index=1, ttft_slo_s=0.1), *(rejected(index=i) for i in (2, 3))]
    assert refused_by_class(group) == {"chat": [2, 3]}
    cells = row("chat", group, [Verdict(1, 0), Verdict(0, 2)])
    # one of two sampled would have met: half of the half that was refused; one of four was late
    assert cells == ["chat", "4", "2", "2", "1", "+1.00 ± 1.96", "25.0", "25.0"]
    assert row("chat", group[:2], [])[-3:] == ["-", "0.0", "50.0"]
    ones = [(frozenset({2}), Verdict(1, 0)), (frozenset({3}), Verdict(0, 2))]
    pair = [(frozenset({2, 3}), Verdict(1, 3))]
    assert lines(group, [*ones, *pair]) == [
        ["chat", "4", "2", "2", "1", "+1.00 ± 1.96", "25.0", "25.0"],
        ["all", "4", "2", "1 x 2", "1.0", "+1.50", "25.0", "25.0"],
    ]


def test_the_sample_is_seeded_and_never_larger_than_asked() -> None:
    assert sampled([4, 7, 9], 8, 0) == [4, 7, 9]
    assert sampled(range(100), 5, 0) == sampled(range(100), 5, 0) != sampled(range(100), 5, 1)
    assert len(set(sampled(range(100), 5, 0))) == 5
