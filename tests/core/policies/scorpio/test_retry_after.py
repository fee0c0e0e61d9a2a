"""Which promises are open, who has come back, and how many do?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scorpio.core.policies.scorpio.learn.stretch import Stretch
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.policies.scorpio.retry_after import Crowd, Told
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import NOW_S, Scene, proven, snapshot
from tests.core.policies.scorpio.hand import LIMITS, PROFILE
from tests.core.policies.scorpio.hand import view as prompt


def ask(seq: int, at_s: float, prompt: int = 100, ttft_s: float = 1.0) -> RequestView:
    return RequestView(f"r{seq}", seq, at_s, prompt, 64, Slo(ttft_s, 0.05))


def table(*views: RequestView) -> WaitingTable:
    made = WaitingTable()
    for view in views:
        made.add(view, view.deadline_s)
    return made


def refused(*beside: RequestView) -> Crowd:
    """One of 0.5 s of work, at time 0, told to come back in 10 s."""
    crowd, view = Crowd(), ask(1, 0.0)
    crowd.book(0.0, table(view, *beside), [Told(view, 11.0, 10.0, 0.5)])
    return crowd


def here_again(crowd: Crowd, waiting: WaitingTable) -> list[bool]:
    """Of each that waits: it came back in time."""
    assert crowd.some_back == crowd.is_back(waiting.seqs()).any()
    found: list[bool] = crowd.is_back(waiting.seqs()).tolist()
    return found


@pytest.mark.parametrize(
    ("view", "back"),
    [
        (ask(2, 10.1), True),
        (ask(2, 0.1, ttft_s=11.0), True),  # at once, with the TTFT it was offered
        (ask(2, 0.1), False),  # it did not wait
        (ask(2, 10.1, prompt=101), False),  # another request
    ],
)
def test_one_that_came_back(view: RequestView, back: bool) -> None:
    crowd = refused()
    waiting = table(view)
    crowd.follow(view.arrival_s, waiting)
    assert here_again(crowd, waiting) == [back]
    assert (crowd.booked_s == 0.0) is back
    waiting.remove(view.request_id)
    crowd.follow(view.arrival_s + 0.1, waiting)
    assert not crowd.some_back


def test_one_that_waited_beside_it_has_not_come_back() -> None:
    beside = ask(2, 0.0, ttft_s=60.0)
    crowd = refused(beside)
    crowd.follow(1.0, table(beside))
    assert not crowd.some_back


@pytest.mark.parametrize("where", ["waits", "runs"])
def test_one_that_was_not_refused_after_all_was_promised_nothing(where: str) -> None:
    """The engine drops a refusal when it knows more than the plan: none disobeyed."""
    crowd, view = refused(), ask(1, 0.0)
    waiting, running = (table(view), []) if where == "waits" else (table(), [view])
    crowd.follow(0.1, waiting, running)
    assert crowd.booked_s == 0.0
    crowd.follow(60.0, table())
    assert crowd.obeys == 1.0


def test_one_that_is_out_of_reach_is_promised_what_it_was_offered_alone() -> None:
    for back, came in ((ask(2, 0.1, ttft_s=11.0), True), (ask(2, 30.0), False)):
        crowd, view = Crowd(), ask(1, 0.0)
        crowd.book(0.0, table(view), [Told(view, 11.0, None, 0.5)])
        waiting = table(back)
        crowd.follow(back.arrival_s, waiting)
        assert here_again(crowd, waiting) == [came]
        crowd.follow(60.0, waiting)
        assert crowd.obeys == 1.0
        assert crowd.booked_s == 0.0


def test_each_promise_counts_for_one() -> None:
    crowd, waiting = refused(), table(ask(2, 10.0), ask(3, 10.0))
    crowd.follow(10.0, waiting)
    assert sum(here_again(crowd, waiting)) == 1


def test_promises_that_are_not_taken_count_less_and_less() -> None:
    crowd = Crowd()
    for number in range(100):
        crowd.book(20.0 * number, table(), [Told(ask(number, 20.0 * number), 11.0, 10.0, 0.5)])
        crowd.follow(20.0 * number + 19.0, table())
        assert crowd.booked_s == 0.0
    crowd.book(5000.0, table(), [Told(ask(200, 5000.0), 11.0, 10.0, 0.5)])
    assert crowd.booked_s < 0.05


def test_there_are_never_too_many() -> None:
    crowd = Crowd()
    crowd.book(0.0, table(), [Told(ask(number, 0.0), 11.0, 10.0, 0.5) for number in range(5000)])
    assert len(crowd._promises) == len(crowd._of_kind[next(iter(crowd._of_kind))]) <= 2048
    assert crowd.obeys == 0.05  # those forgotten did not come back


class Counted(dict[Any, Any]):
    """Counts what is looked up."""

    looks = 0

    def __getitem__(self, key: Any) -> Any:
        self.looks += 1
        return super().__getitem__(key)


def test_a_flood_that_never_obeys_is_not_compared_with_all_it_was_told() -> None:
    crowd, view = Crowd(), ask(1, 0.0)
    crowd.book(0.0, table(view), [Told(view, 11.0, 10.0, 0.5)] * 2048)
    crowd._promises = looks = Counted(crowd._promises)
    crowd.follow(0.1, table(*(ask(2 + number, 0.1) for number in range(100))))
    assert 0 < looks.looks <= 100 * 64
    crowd.follow(10.1, waiting := table(ask(200, 10.1)))
    assert here_again(crowd, waiting) == [True]


def test_promises_weigh_by_how_many_obey() -> None:
    crowd = refused()
    assert crowd.obeys == 1.0
    assert crowd.booked_s == 0.5
    assert crowd.weight == pytest.approx(0.1)  # all obey: a tenth of its cost counts
    crowd.follow(60.0, table())
    assert crowd.obeys == pytest.approx(0.95)
    assert crowd.weight == pytest.approx(1.0 - 0.9 * 0.95**2)
    crowd.book(60.0, table(), [Told(ask(2, 60.0), 11.0, 10.0, 0.5)])
    assert crowd.booked_s == pytest.approx(0.5 * 0.95)
    crowd.follow(70.0, table(ask(3, 70.0)))
    assert crowd.obeys == pytest.approx(0.95 + 0.05 * 0.05)


@pytest.mark.parametrize(("at_s", "open_"), [(14.49, True), (14.51, False)])
def test_a_promise_is_kept_for_its_time_and_a_grace(at_s: float, open_: bool) -> None:
    crowd = refused()  # 10 s, and 2 s and a quarter of the wait
    crowd.follow(at_s, table())
    assert (crowd.booked_s > 0.0) is open_


@pytest.mark.parametrize(("at_s", "back"), [(5.5, True), (5.49, False)])
def test_one_that_comes_back_too_early_has_not_obeyed(at_s: float, back: bool) -> None:
    crowd, waiting = refused(), table(ask(2, at_s))
    crowd.follow(at_s, waiting)
    assert here_again(crowd, waiting) == [back]


@pytest.mark.parametrize(("ttft_s", "back"), [(9.01, True), (8.99, False)])
def test_the_ttft_it_was_offered_is_about_the_slo_and_the_wait(ttft_s: float, back: bool) -> None:
    crowd, waiting = refused(), table(ask(2, 0.1, ttft_s=ttft_s))
    crowd.follow(0.1, waiting)
    assert here_again(crowd, waiting) == [back]


def test_all_promises_are_looked_at_four_times_a_second() -> None:
    crowd = refused()
    crowd.book(0.0, table(), [Told(ask(2, 0.0), 11.1, 10.1, 0.5)])  # its time is over at 14.625 s
    crowd.follow(14.51, table())
    crowd.follow(14.70, table())  # not looked at again
    assert crowd.booked_s == pytest.approx(0.5 * 0.95)
    crowd.follow(14.77, table())
    assert crowd.booked_s == 0.0


def test_a_promise_holds_for_one_that_arrives_after_it_was_given_and_for_one_of_each_kind() -> None:
    crowd, first = Crowd(), ask(1, 0.0)
    crowd.book(
        0.0, table(first), [Told(v, 11.0, 10.0, 0.5) for v in (first, ask(2, 0.0, prompt=7))]
    )
    waiting = table(ask(3, 10.0), ask(4, 10.0, prompt=7), ask(5, 10.0, prompt=7))
    crowd.follow(10.0, waiting)
    assert here_again(crowd, waiting) == [True, True, False]


def test_the_policy_follows_what_comes_back() -> None:
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions()), PROFILE)
    asked = tuple(prompt(f"r{n}", 400, 0.3, arrival_s=NOW_S) for n in range(1, 31))
    made = policy.plan(NOW_S, snapshot(policy, Scene(LIMITS, (), tuple((v, False) for v in asked))))
    assert made.reject
    assert policy._crowd.booked_s > 0.0
    late_s = NOW_S + 500.0
    one = prompt("r99", 400, 600.0, arrival_s=late_s)
    policy.plan(late_s, snapshot(policy, Scene(LIMITS, (), ((one, False),))))
    assert policy._crowd.booked_s == 0.0


def test_a_promise_binds_until_the_answer_ends() -> None:
    crowd, view = refused(), ask(2, 10.1)
    crowd.follow(10.1, table(view))
    crowd.follow(10.2, table(), [view])
    assert crowd.is_back(np.array([2])).all()
    crowd.follow(10.3, table())
    assert not crowd.some_back


@pytest.mark.parametrize(("ttft_s", "at_s", "what"), [(1.0, 10.1, "later"), (11.5, 0.1, "offered")])
@pytest.mark.parametrize("kept", [False, True])
def test_what_becomes_of_it_teaches_how_long_the_next_times_are(
    ttft_s: float, at_s: float, what: str, kept: bool
) -> None:
    crowd, view = refused(), ask(2, at_s, ttft_s=ttft_s)
    expected = {"later": Stretch(), "offered": Stretch()}
    crowd.follow(at_s, table(view))
    if kept:
        crowd.follow(at_s + 0.1, table(), [view])
    else:
        crowd.refused(["r7", "r2"])
    expected[what].learn(kept)
    crowd.refused(["r2"])  # it counts once
    crowd.follow(at_s + 0.2, table())
    found = {"later": crowd.later.times, "offered": crowd.offered.times}
    assert found == {name: one.times for name, one in expected.items()}
