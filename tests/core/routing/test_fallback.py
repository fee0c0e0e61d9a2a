"""May this request fall back, and where does it go? The rule, and its ceilings to the request."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from scorpio.core.routing.fallback import MEMORY, Ceiling, Deployments, Place
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import MIDDLING, Replica, ReplicaLoad, RoutedRequest, by_due
from scorpio.core.routing.registry import make_ranking
from scorpio.core.routing.router import Router
from tests.core.routing.fleets import replica, request

NAME = "model-fp8"
FULL = by_due([0.5], [60_000])  # six seconds of prefill, due before what comes
ANYWHERE = {"chat": 1.0}


def router(count: int, one: Replica | None = None) -> Router:
    view = FleetView([one or replica()] * count)
    return Router(view, make_ranking("least-work", view))


def fleet(shares: dict[str, float], first: int = 2, fallback: int = 2) -> Deployments:
    return Deployments(router(first), router(fallback), shares, NAME)


def chat(seq: int = 0, slo_class: str = "chat", model: str = "") -> RoutedRequest:
    return replace(request(seq), slo_class=slo_class, model=model)


def fill(deployments: Deployments, fallback: bool, rows: int = 2) -> None:
    for row in range(rows):
        load = ReplicaLoad(0.0, 0, 40, 0, 90_000, FULL)
        deployments.router(fallback).report(row, load)


def ask(deployments: Deployments, asked: RoutedRequest, refused: bool = False) -> Place | None:
    deployments.comes(asked)
    return deployments.choose(asked, asked.arrival_s, refused=refused)


def test_nothing_falls_back_while_the_first_can() -> None:
    deployments = fleet(ANYWHERE)
    assert ask(deployments, chat()) == Place(False, 0)
    assert deployments.ceilings["chat"].fell == 0


def test_what_none_of_the_first_keeps_falls_back() -> None:
    deployments = fleet(ANYWHERE)
    fill(deployments, False)
    assert ask(deployments, chat()) == Place(True, 0)
    fill(deployments, False, rows=1)
    deployments.router(False).report(1, ReplicaLoad(0.0))
    assert ask(deployments, chat(1)) == Place(False, 1)


def test_it_stays_where_the_fallback_does_no_better() -> None:
    deployments = fleet(ANYWHERE)
    fill(deployments, False)
    fill(deployments, True)
    assert ask(deployments, chat()) == Place(False, 0)


def test_what_the_first_has_refused_falls_back_whatever_is_forecast() -> None:
    deployments = fleet(ANYWHERE)
    fill(deployments, True)
    assert ask(deployments, chat(), refused=True) == Place(True, 0)


@pytest.mark.parametrize(
    "asked", [chat(slo_class="agent"), chat(slo_class=""), chat(model="an-adapter")]
)
def test_other_classes_and_adapters_stay(asked: RoutedRequest) -> None:
    deployments = fleet(ANYWHERE)
    fill(deployments, False)
    assert ask(deployments, asked, refused=True) == Place(False, 0)


def test_who_names_the_fallback_gets_it_and_nothing_else() -> None:
    deployments = fleet({"chat": 0.5})
    assert ask(deployments, chat(model=NAME)) == Place(True, 0)
    assert deployments.ceilings["chat"].came == deployments.ceilings["chat"].fell == 0
    for row in range(2):
        deployments.router(True).lost(row)
    assert ask(deployments, chat(model=NAME)) is None


def test_without_a_replica_of_the_first_the_fallback_serves_what_may() -> None:
    deployments = fleet(ANYWHERE)
    fill(deployments, True)
    for row in range(2):
        deployments.router(False).lost(row)
    assert ask(deployments, chat()) == Place(True, 0)
    assert ask(deployments, chat(1, slo_class="agent")) is None


def test_it_goes_nowhere_twice() -> None:
    deployments = fleet(ANYWHERE)
    tried: frozenset[Place] = frozenset()
    deployments.comes(chat())
    for _ in range(4):
        place = deployments.choose(chat(), 0.0, tried, refused=True)
        assert place is not None
        assert place not in tried
        if place.fallback:
            deployments.not_served(chat())
        tried |= {place}
    assert deployments.choose(chat(), 0.0, tried, refused=True) is None
    assert deployments.ceilings["chat"].fell == 0


def test_an_engine_that_was_not_measured_is_believed() -> None:
    unknown = Replica(MIDDLING, 2048, 64, 100_000)
    deployments = Deployments(router(1, unknown), router(1), ANYWHERE, NAME)
    fill(deployments, False, rows=1)
    assert ask(deployments, chat()) == Place(False, 0)
    deployments = Deployments(router(1), router(1, unknown), ANYWHERE, NAME)
    fill(deployments, False, rows=1)
    fill(deployments, True, rows=1)
    assert ask(deployments, chat()) == Place(True, 0)


@pytest.mark.parametrize("share", [1.0, 0.5, 1 / 3, 0.1, 0.001])
def test_the_ceiling_holds_to_the_request(share: float) -> None:
    deployments, rng = fleet({"chat": share}), random.Random(0)
    ceiling = deployments.ceilings["chat"]
    history: list[int] = []
    for seq in range(5000):
        pressed = rng.random() < 0.8 or seq > 2500
        place = ask(deployments, chat(seq), refused=pressed)
        history.append(int(place is not None and place.fallback))
        assert ceiling.fell == sum(history) <= share * ceiling.came + 1e-6
    late = history[2500:]
    assert sum(late) >= share * len(late) - 1  # it is used when it is needed
    for width in (50, 500):
        most = max(sum(history[at : at + width]) for at in range(0, 5000 - width, 25))
        assert most <= share * (width + MEMORY) + 1


def test_a_calm_day_does_not_pay_for_an_endless_rush() -> None:
    ceiling = Ceiling(0.1)
    for _ in range(100_000):
        ceiling.comes()
    rush = 0
    while ceiling.room:
        ceiling.falls()
        rush += 1
    assert rush == 0.1 * MEMORY


def test_a_tenth_is_every_tenth() -> None:
    deployments = fleet({"chat": 0.1})
    fell = [ask(deployments, chat(seq), refused=True) for seq in range(30)]
    assert [seq for seq, place in enumerate(fell) if place and place.fallback] == [9, 19, 29]


def test_a_share_that_changes_counts_anew_and_others_go_on() -> None:
    deployments = fleet({"chat": 0.5, "doc": 0.5})
    for seq in range(10):
        ask(deployments, chat(seq), refused=True)
        ask(deployments, chat(seq, slo_class="doc"), refused=True)
    deployments.allow({"chat": 0.5, "doc": 0.25})
    assert (deployments.ceilings["chat"].came, deployments.ceilings["chat"].fell) == (10, 5)
    assert (deployments.ceilings["doc"].came, deployments.ceilings["doc"].fell) == (0, 0)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
        Ceiling(share)


def test_awaited_at_the_fallback_counts() -> None:
    deployments = fleet({"chat": 0.5})
    deployments.comes(chat())
    assert not deployments.may_go_there(chat())
    deployments.comes(chat(1))
    assert deployments.may_go_there(chat(1))
    deployments.send(Place(True, 1), chat(1), 0.0)
    assert deployments.ceilings["chat"].fell == 1
    assert deployments.router(True).view.sent[1] == 1
