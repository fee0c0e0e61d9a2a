"""Is the smallest sufficient fleet found, told and drawn, and is every request dealt once?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from scorpio.cli.plan_table import answer_lines, answer_table, class_table, difference_lines
from workloads.report.plots_replicas import replicas_plot
from workloads.results.intervals import Interval
from workloads.results.records import Outcome, RequestRecord
from workloads.results.replicas import (
    FleetCurve,
    FleetPoint,
    Verdict,
    by_need,
    next_fleet,
    split_round_robin,
)
from workloads.results.windows import windows_of
from workloads.slo_changes import parse_changes
from workloads.targets import ALL, Targets


def searched(shares: list[float], target: float) -> tuple[dict[int, bool], int | None]:
    """What is measured when `shares[n - 1]` is the attainment of n replicas; and the answer."""
    measured: dict[int, bool] = {}
    while (fleet := next_fleet(measured, limit=len(shares))) is not None:
        assert fleet not in measured
        measured[fleet] = shares[fleet - 1] >= target
    return measured, min((n for n, enough in measured.items() if enough), default=None)


@pytest.mark.parametrize("answer", range(1, 21))
def test_search_finds_the_smallest_fleet_and_measures_its_neighbour(answer: int) -> None:
    shares = [0.5 if n < answer else 0.96 for n in range(1, 21)]
    measured, found = searched(shares, 0.95)
    assert found == answer
    assert answer == 1 or answer - 1 in measured
    assert len(measured) <= 9


def test_search_ends_at_the_limit() -> None:
    measured, found = searched([0.1] * 11, 0.95)
    assert found is None
    assert sorted(measured) == [1, 2, 4, 8, 11]


def test_every_request_goes_to_one_replica_in_turn() -> None:
    assert [list(part) for part in split_round_robin(7, 3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [list(part) for part in split_round_robin(1, 2)] == [[0], []]


def _interval(share: float) -> Interval:
    return Interval(share, share - 0.02, share + 0.02, 1, 100)


def _plan(policy: str, *shares: float, agent: Sequence[float] = ()) -> FleetCurve:
    agents = agent or shares
    points = tuple(
        FleetPoint(
            n,
            6.0 / n,
            {ALL: _interval(share), "agent": _interval(of_agent), "chat": _interval(share)},
            0.0,
        )
        for n, (share, of_agent) in enumerate(zip(shares, agents, strict=True), start=1)
    )
    return FleetCurve(policy, points, Targets({ALL: 0.9}))


def test_only_a_lower_bound_is_enough() -> None:
    plan = _plan("scorpio", 0.7, 0.91, 0.93)
    assert [p.verdict(plan.targets) for p in plan.points] == [
        Verdict.SHORT,
        Verdict.MEAN,
        Verdict.SURE,
    ]
    assert plan.needed is plan.points[2]
    assert plan.by_mean is plan.points[1]
    assert [p.hopeless(plan.targets) for p in plan.points] == [True, False, False]
    written = plan.to_dict()
    assert (written["replicas"], written["replicas_by_mean"]) == (3, 2)
    assert [point["verdict"] for point in written["curve"]] == ["short", "only its mean", "sure"]
    assert written["curve"][1]["groups"]["agent"]["low"] == pytest.approx(0.89)
    json.dumps(written)


def test_every_class_that_has_a_target_must_reach_it() -> None:
    plan = _plan("scorpio", 0.95, 0.97, 0.99, agent=(0.80, 0.91, 0.96))
    targets = Targets({"chat": 0.9, "agent": 0.9})
    plan = replace(plan, targets=targets)
    assert [p.verdict(targets) for p in plan.points] == [Verdict.SHORT, Verdict.MEAN, Verdict.SURE]


@pytest.mark.parametrize(
    ("alone", "shares", "out"),
    [
        (0.87, (0.1,), (ALL,)),  # surely short: 0.89 at most
        (0.89, (0.1,), ()),  # not surely, and one replica is far from it
        (0.89, (0.1, 0.884), (ALL,)),  # two are as good as idle ones
        (0.91, (0.1, 0.905), ()),
        (0.89, (0.1, 0.93), ()),  # as it turned out, it is reached
    ],
)
def test_what_more_replicas_cannot_bring(
    alone: float, shares: Sequence[float], out: tuple[str, ...]
) -> None:
    plan = replace(_plan("fcfs", *shares), alone={ALL: _interval(alone), "chat": _interval(0.1)})
    assert plan.out_of_reach == out
    assert plan.to_dict()["out_of_reach"] == list(out)
    assert plan.to_dict()["alone"]["chat"]["mean"] == 0.1


def test_plans_are_ordered_by_need_and_drawn() -> None:
    plans = [_plan("fcfs", 0.1, 0.3), _plan("sjf", 0.1, 0.93), _plan("scorpio", 0.5, 0.95)]
    assert [plan.policy for plan in by_need(plans)] == ["scorpio", "sjf", "fcfs"]
    assert plans[0].needed is None
    assert plans[0].to_dict()["replicas"] is None
    assert plans[1].to_dict()["replicas"] == 2
    plot = replicas_plot(plans, Targets({ALL: 0.9, "agent": 0.8}), "a load")
    assert plot.name == "plan"
    assert plot.png.startswith(b"\x89PNG")


def _told(plans: list[FleetCurve]) -> list[list[str]]:
    """Rows of both tables."""
    tables = [answer_table(plans, 64), class_table(plans)]
    return [
        [str(cell) for cell in row]
        for table in tables
        for row in zip(*(column.cells for column in table.columns), strict=True)
    ]


def test_the_screen_shows_classes_and_what_only_a_mean_reaches() -> None:
    plan = _plan("scorpio", 0.7, 0.91, 0.95, agent=(0.6, 0.7, 0.84))
    rows = _told([plan, _plan("fcfs", 0.1, 0.3)])
    assert rows[0] == ["scorpio", "3", "95.0", "93.0-97.0", "2.00", "yes"]
    assert rows[1] == ["", "2", "91.0", "89.0-93.0", "3.00", "only its mean"]
    assert rows[2] == ["fcfs", "> 64, best 2", "30.0", "28.0-32.0", "3.00", "no"]
    assert rows[3] == ["agent", "scorpio", "3", "–", "84.0", "82.0-86.0"]
    lines = list(answer_lines([plan]))
    assert lines == [
        "scorpio: with 2 replicas only the mean reaches the targets, the lower bound does not",
        "scorpio: agent is at 84.0 %, below the 90 % of all; --target agent=90 asks for it",
    ]


def test_a_difference_is_told() -> None:
    before, after = _plan("scorpio", 0.7, 0.95), _plan("scorpio", 0.5, 0.8, 0.85, 0.97)
    (line,) = difference_lines([before], [after], parse_changes("tpot.chat=40"))
    assert line == (
        "scorpio: 2 replicas as it is, 4 replicas with tpot.chat=40 (+2);"
        " 2 replicas: 95.0 % good become 80.0 %"
    )
    none = _plan("scorpio", 0.1)
    (line,) = difference_lines([none], [before], parse_changes("tpot.chat=40"))
    assert line == "scorpio: no fleet found as it is, 2 replicas with tpot.chat=40"


def _records(good_in: Sequence[float]) -> list[RequestRecord]:
    """A hundred requests in each part, of which so many are good."""
    return [
        RequestRecord(
            index=100 * part + n, slo_class="", send_s=0.0, scheduled_send_s=0.0, prompt_tokens=1,
            output_tokens=1, first_token_s=1.0, last_token_s=1.0, outcome=Outcome.FINISHED,
            ttft_slo_s=2.0 if n < 100 * share else 0.5,
        )
        for part, share in enumerate(good_in)
        for n in range(100)
    ]  # fmt: skip


def test_an_answer_that_depends_on_the_window_says_so() -> None:
    plan = _plan("scorpio", 0.7, 0.95)
    enough = replace(plan.points[1], windows=windows_of(_records([0.99, 0.97, 1.0, 0.95])))
    points = (replace(plan.points[0], windows=enough.windows), enough)
    assert not list(answer_lines([replace(plan, points=points)]))
    uneven = replace(plan.points[1], windows=windows_of(_records([0.99, 1.0, 0.7, 1.0])))
    more = replace(uneven, replicas=4, windows=windows_of(_records([1.0] * 4)))
    grown = (replace(plan.points[0], windows=uneven.windows), uneven, more)
    assert list(answer_lines([replace(plan, points=grown)])) == [
        "scorpio: the answer depends on the window: requests 201 to 300 alone (all 70.0 %) would"
        " need 4 replicas"
    ]
    assert list(answer_lines([replace(plan, points=grown[:2])])) == [
        "scorpio: the answer depends on the window: requests 201 to 300 alone (all 70.0 %) would"
        " need more than measured"
    ]
