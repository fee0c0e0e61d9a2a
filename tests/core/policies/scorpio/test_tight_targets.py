"""Which TPOT targets may others share steps with, by what came of late?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio import tight_targets
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.tight_targets import TightTargets
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.waiting import WaitingTable

MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 0.0)  # a prompt token takes 1 ms of work
FIXED_S = 0.020  # of a step: 30 ms leave a third of it for work, 60 ms two thirds
TIGHT_S, LOOSE_S = 0.030, 0.060


def came(load: float, shares: dict[float, float], seconds: int = 20) -> TightTargets:
    """Requests of 100 ms of work each; load: of one engine that has no fixed cost, by shares."""
    targets, lengths = TightTargets(0.5), LengthBelief(8)
    seq, owed = 0, dict.fromkeys(shares, 0.0)
    for second in range(seconds):
        views: list[RequestView] = []
        for tpot_s, share in shares.items():
            owed[tpot_s] += 10.0 * load * share
            while owed[tpot_s] >= 1.0:
                owed[tpot_s] -= 1.0
                seq += 1
                views.append(ask(seq, second, tpot_s))
        show(targets, float(second), views, lengths)
    return targets


def ask(seq: int, now_s: float, tpot_s: float) -> RequestView:
    slo = Slo(5.0, tpot_s)
    return RequestView(f"r{seq}", seq, now_s, 99, 100, slo, predicted_output_tokens=1.0)


def show(
    targets: TightTargets, now_s: float, views: Sequence[RequestView], lengths: LengthBelief
) -> None:
    table = WaitingTable()
    for view in views:
        table.add(view, view.deadline_s)
    targets.follow(now_s, table, MODEL, lengths)


def test_at_half_of_the_fixed_part_all_may_come() -> None:
    assert TightTargets(0.5).least_s(0.0, FIXED_S) == pytest.approx(2 * FIXED_S)
    assert came(2.0, {LOOSE_S: 1.0}).least_s(20.0, FIXED_S) == pytest.approx(2 * FIXED_S)


@pytest.mark.parametrize(
    ("load", "shares", "let_in"),
    [
        (0.2, {TIGHT_S: 0.2, LOOSE_S: 0.8}, True),  # there is room for all
        (0.9, {TIGHT_S: 0.1, LOOSE_S: 0.9}, False),  # a few would cost the others a third
        (0.9, {TIGHT_S: 0.9, LOOSE_S: 0.1}, True),  # they are nearly all there is
    ],
)
def test_a_tight_target_is_let_in_where_it_keeps_more_than_it_costs(
    load: float, shares: dict[float, float], let_in: bool
) -> None:
    least_s = came(load, shares).least_s(20.0, FIXED_S)
    assert least_s == pytest.approx(TIGHT_S if let_in else 2 * FIXED_S)


def test_it_is_let_in_again_when_the_load_is_gone() -> None:
    targets, lengths = came(0.9, {TIGHT_S: 0.1, LOOSE_S: 0.9}), LengthBelief(8)
    assert targets.least_s(20.0, FIXED_S) > TIGHT_S
    show(targets, 60.0, [ask(10_000, 60.0, TIGHT_S)], lengths)
    assert targets.least_s(61.9, FIXED_S) == pytest.approx(TIGHT_S)


def test_one_that_still_waits_came_once() -> None:
    targets, lengths = TightTargets(0.5), LengthBelief(8)
    waits = [ask(1, 0.0, TIGHT_S)]
    for second in range(5):
        show(targets, float(second), waits, lengths)
    assert len(targets._demand.came(5.0)[0]) == 1


def test_of_as_many_targets_as_requests_a_few_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def half(load: float, _bend: float) -> float:
        asked.append(load)
        return 0.5

    monkeypatch.setattr(tight_targets, "served_share", half)
    targets, lengths = TightTargets(0.5), LengthBelief(8)
    views = [ask(n, 0.0, FIXED_S + 1e-6 * (n + 1)) for n in range(6000)]
    show(targets, 0.0, views, lengths)
    assert targets.least_s(1.0, FIXED_S) > FIXED_S
    assert 0 < len(asked) <= 17
