"""Does each router choose as its source says?"""

from __future__ import annotations

import math
from collections import Counter

import pytest

from scorpio.core.routing.load import ReplicaLoad, by_due
from scorpio.core.routing.registry import ROUTERS, make_ranking
from scorpio.core.routing.rivals import Split, spread
from scorpio.core.routing.router import Router
from tests.core.routing.fleets import request, view


def router(name: str, replicas: int = 4) -> Router:
    fleet = view(replicas)
    return Router(fleet, make_ranking(name, fleet))


@pytest.mark.parametrize("name", ROUTERS)
def test_equal_replicas_get_equal_shares(name: str) -> None:
    deals = router(name)
    went = Counter(deals.choose(request(seq, 0.01 * seq), 0.01 * seq) for seq in range(400))
    assert sum(went.values()) == 400
    packs = {"fullest-feasible": 1, "headroom": 1}  # they pack on purpose
    assert len(went) == 4 or name in packs
    if name not in packs:
        assert max(went.values()) - min(went.values()) <= 60


@pytest.mark.parametrize("name", ROUTERS)
def test_none_goes_to_the_dead_or_back_to_one_that_refused(name: str) -> None:
    deals = router(name)
    deals.lost(2)
    for seq in range(40):
        assert deals.choose(request(seq), 0.0, frozenset({0})) in (1, 3)
    for gone in (0, 1, 3):
        deals.lost(gone)
    assert deals.choose(request(99), 1.0) is None


def test_an_unknown_router_is_told_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown router 'x'; valid: promises, round-robin"):
        make_ranking("x", view())


def test_in_turn() -> None:
    deals = router("round-robin", 3)
    assert [deals.choose(request(seq), 0.0) for seq in range(6)] == [0, 1, 2, 0, 1, 2]


def busy(deals: Router) -> Router:
    """0: many requests, no prefill. 1: few, much prefill. 2: between."""
    deals.report(0, ReplicaLoad(0.0, 30, 0, 3000, 50_000, by_due([], []), ((0.05, 30),)))
    deals.report(1, ReplicaLoad(0.0, 2, 3, 500, 50_000, by_due([2.0], [9000]), ((0.05, 2),)))
    deals.report(2, ReplicaLoad(0.0, 8, 1, 900, 50_000, by_due([2.0], [600]), ((0.05, 8),)))
    return deals


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("least-loaded", 1),
        ("least-work", 0),
        ("lmetric", 2),  # 1,000 x 31, 10,000 x 6, 1,600 x 10
        ("fullest-feasible", 0),
        ("promises", 0),  # 0.1 s of work beside 11.55 ms of decodes, against 0.16 beside 10.5
    ],
)
def test_by_what_is_told(name: str, chosen: int) -> None:
    assert busy(router(name, 3)).choose(request(seq=1, prompt=1000), 0.0) == chosen


def test_the_less_loaded_of_two() -> None:
    deals = busy(router("power-of-two", 3))
    went = Counter(deals.choose(request(seq), 0.0) for seq in range(12))
    assert went[0] < went[1]


def test_most_of_the_prompt_while_not_too_full() -> None:
    deals = router("prefix-affinity", 3)
    first = deals.choose(request(0, prefix=(1, 2)), 0.0)
    assert deals.choose(request(1, prefix=(1, 2)), 0.0) == first
    went = {deals.choose(request(seq, prefix=(1, 2)), 0.0) for seq in range(2, 12)}
    assert len(went) > 1  # one replica does not get all of it


def test_the_least_headroom_that_is_enough() -> None:
    deals = router("headroom", 2)
    deals.report(0, ReplicaLoad(0.0, 5, 0, prefill_tokens=by_due([0.2], [1000])))
    assert deals.choose(request(1, ttft_s=1.0), 0.0) == 0  # packed
    assert deals.choose(request(2, ttft_s=0.15), 0.0) == 1  # only there in time


def test_bins_of_tpot() -> None:
    deals = router("fullest-feasible", 3)
    tight, loose = request(1, tpot_s=0.03), request(2, tpot_s=0.2)
    first = deals.choose(tight, 0.0)
    other = deals.choose(loose, 0.0)
    assert first != other
    assert deals.choose(request(3, tpot_s=0.03), 0.0) == first
    assert deals.choose(request(4, tpot_s=0.2), 0.0) == other


def test_a_fixed_split() -> None:
    fleet = view(4)
    deals = Router(fleet, Split(1, 0.03))
    assert {deals.choose(request(seq, tpot_s=0.03), 0.0) for seq in range(5)} == {0}
    assert {deals.choose(request(seq, tpot_s=0.05), 0.0) for seq in range(9)} == {1, 2, 3}


def test_spread_looks_like_chance_and_is_none() -> None:
    bins = Counter(spread(number) % 10 for number in range(10_000))
    assert all(900 < count < 1100 for count in bins.values())
    assert spread(5, 1) == spread(5, 1) != spread(5, 2)
    assert math.isclose(sum(bins.values()), 10_000)
