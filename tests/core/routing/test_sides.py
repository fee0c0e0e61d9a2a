"""Does the split between tight and loose requests follow what comes?"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from scorpio.core.demand import MEMORY_S, Demand, Level
from scorpio.core.fluid import served_share
from scorpio.core.routing import sides
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.promises import Promises
from scorpio.core.routing.router import Router
from scorpio.core.routing.sides import best_split, by_speed, floors
from tests.core.routing.fleets import replica, request, view


def level(load: float, work_s: float = 0.1) -> Level:
    """Equal requests that ask for `load` engine seconds per second."""
    return Level.of(np.full(50, work_s), load / work_s)


def test_demand_is_what_came_in_the_last_half_minute() -> None:
    fleet, demand = view(1), Demand()
    assert demand.levels(0.0) == {}
    for seq in range(100):  # from time 0 on: two a second
        tpot_s = (0.03, 0.05)[seq % 2]
        demand.note(0.5 * seq, tpot_s, fleet.work_s(request(seq, tpot_s=tpot_s), 1000))
    found = demand.levels(49.5)
    assert list(found) == [0.03, 0.05]
    span_s = 49.5 - (49.5 - MEMORY_S)
    assert found[0.03].per_s == pytest.approx(1.0, rel=0.05)
    assert sum(len(one.done_s) - 1 for one in found.values()) == pytest.approx(2 * span_s, abs=1)
    # 1,000 prefill tokens and 100 decodes
    assert found[0.05].load == pytest.approx(found[0.05].per_s * (0.1 + 100 * 0.00005))


def test_the_first_request_may_come_at_time_zero() -> None:
    demand, fleet = Demand(), view(1)
    for when_s in (0.0, 10.0):
        demand.note(when_s, request().slo.tpot_s, fleet.work_s(request(), 1000))
    assert demand.levels(10.0)[0.05].per_s == pytest.approx(0.2)


def test_the_cheapest_are_kept_first() -> None:
    mixed = Level.of(np.array([0.1, 0.1, 0.1, 0.7]), 4.0)  # one engine second per second
    assert mixed.load == pytest.approx(1.0)
    assert mixed.kept(0.3) == pytest.approx(3.0)
    assert mixed.kept(1.0) == pytest.approx(4.0)
    assert mixed.kept(0.0) == 0.0


def test_the_tight_get_as_many_as_their_work_needs() -> None:
    # 1.4 x 2/3 of a replica's time is for work at 30 ms, 1.4 x 9/10 at 100 ms.
    fleet = view(8)
    for tight, loose, expected in ((0.7, 8.0, 1), (2.4, 6.0, 3), (4.5, 3.7, 5)):
        levels, split = best_split(fleet, {0.03: level(tight), 0.1: level(loose)}, [])
        assert levels == [0.03, 0.1]
        assert sum(split) == 8
        assert abs(split[0] - expected) <= 1, (tight, loose, split)


def test_the_tightest_is_never_left_without_a_replica() -> None:
    _, split = best_split(view(2), {0.03: level(0.9), 0.1: level(90.0)}, [])
    assert split == [1, 1]


def test_a_level_without_a_side_is_counted_where_it_goes() -> None:
    """On one replica three levels share it."""
    levels, split = best_split(view(1), {s: level(0.1) for s in (0.03, 0.05, 0.1)}, [])
    assert split == [1, 0, 0]
    assert floors(levels, split, view(1)).tolist() == [0.03]


def test_a_split_stays_until_another_is_clearly_better() -> None:
    fleet, demand = view(8), {0.03: level(2.4), 0.1: level(6.0)}
    _, best = best_split(fleet, demand, [])
    light = {0.03: level(0.2), 0.1: level(0.4)}
    assert best_split(fleet, light, [3, 5])[1] == [3, 5]
    assert best_split(fleet, demand, [7, 1])[1] == best


def test_a_large_fleet_moves_step_by_step_to_the_same_share() -> None:
    fleet = view(256)
    demand = {s: level(32 * load) for s, load in ((0.03, 1.7), (0.06, 3.8), (0.1, 1.5), (0.2, 0.8))}
    split: list[int] = []
    for _ in range(40):
        _, split = best_split(fleet, demand, split)
    small = {s: Level(one.done_s, one.per_s / 32) for s, one in demand.items()}
    _, few = best_split(view(8), small, [])
    assert sum(split) == 256
    assert split[0] / 256 == pytest.approx(few[0] / 8, abs=0.1)


@pytest.mark.parametrize("bend", [2.0, 3.0, 300.0])
def test_of_a_small_load_all_is_served_and_of_a_large_one_what_there_is_room_for(
    bend: float,
) -> None:
    assert served_share(1e-6, bend) == pytest.approx(1.0)
    assert served_share(50.0, bend) == pytest.approx(1.0 / 50.0, rel=1e-3)
    assert served_share(1e9, bend) == pytest.approx(1e-9)
    assert served_share(1.0, bend) == pytest.approx(0.5 ** (1.0 / bend))


def test_a_target_below_the_fixed_part_of_a_step_asks_for_no_replicas_of_a_large_fleet() -> None:
    split = best_split(view(300), {0.005: level(50.0), 0.1: level(400.0)}, [])[1]
    for _ in range(60):
        split = best_split(view(300), {0.005: level(50.0), 0.1: level(400.0)}, split)[1]
    assert sum(split) == 300
    assert split[0] < 30


def test_all_splits_of_a_small_fleet_are_looked_at() -> None:
    expected = {p for p in product(range(5), repeat=3) if sum(p) == 4}
    assert set(sides._all(4, 3)) == expected
    assert sides._count(4, 3) == len(expected)


def test_tight_targets_go_where_the_fixed_part_of_a_step_is_least() -> None:
    fleet = FleetView([replica(0.02), replica(0.005), replica(0.01)])
    assert by_speed(fleet).tolist() == [1, 2, 0]
    assert floors([0.03, 0.1], [1, 2], fleet).tolist() == [0.1, 0.03, 0.1]


def test_nothing_is_known_or_alive() -> None:
    fleet = view(1)
    assert best_split(fleet, {}, []) == ([], [])
    fleet.alive[0] = False
    assert best_split(fleet, {0.03: level(1.0)}, [1]) == ([0.03], [])


def deal(router: Router, count: int, from_s: float, tight_every: int) -> dict[float, set[int]]:
    """Both classes, 120 a second together; where the requests of each went."""
    went: dict[float, set[int]] = {0.03: set(), 0.1: set()}
    for seq in range(count):
        at_s, tpot_s = from_s + seq / 120.0, 0.03 if seq % tight_every == 0 else 0.1
        chosen = router.choose(request(seq, at_s, prompt=800, tpot_s=tpot_s), at_s)
        assert chosen is not None
        went[tpot_s].add(chosen)
    return went


def test_tight_and_loose_are_kept_apart_and_sides_follow_the_load() -> None:
    fleet = view(8)
    router = Router(fleet, Promises(fleet))
    deal(router, 600, 0.0, tight_every=8)
    few = deal(router, 300, 5.0, tight_every=8)
    assert not few[0.03] & few[0.1]
    assert len(few[0.03]) < len(few[0.1])
    deal(router, 4200, 10.0, tight_every=2)
    many = deal(router, 300, 45.0, tight_every=2)
    assert len(many[0.03]) > len(few[0.03])


def test_sides_are_chosen_anew_when_a_replica_dies() -> None:
    fleet = view(4)
    router = Router(fleet, Promises(fleet))
    deal(router, 600, 0.0, tight_every=4)
    (tight, *_) = deal(router, 300, 5.0, tight_every=4)[0.03]
    router.lost(tight)
    after = deal(router, 300, 7.5, tight_every=4)
    assert after[0.03]
    assert tight not in after[0.03] | after[0.1]


def test_requests_without_a_target_have_a_side_too() -> None:
    fleet = view(3)
    router = Router(fleet, Promises(fleet))
    for seq in range(60):
        target_s = 0.03 if seq % 3 == 0 else math.inf
        assert router.choose(request(seq, 0.1 * seq, tpot_s=target_s), 0.1 * seq) is not None
