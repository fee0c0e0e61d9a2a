"""Are shares kept by weight, and inside each class? By hand: every request takes one second."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scorpio.core.policies.scorpio.class_shares import ClassShares
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, running_batch

WEIGHTS = {"a": 3.0, "b": 1.0, "c": 1.0}


def view(tenant: str, name: str = "chat", seq: int = 1, **more: Any) -> RequestView:
    weight = more.pop("weight", WEIGHTS.get(tenant, 0.0))
    return RequestView(
        f"{tenant}{seq}", seq, 0.0, 100, 64, Slo(1.0, 0.05), name, f"{tenant}/", weight=weight
    )


def shares(served: str, refused: str = "", name: str = "chat", most: float = 0.0) -> ClassShares:
    made = ClassShares(most, lambda _: 1.0)
    book(made, served, refused, name)
    return made


def book(made: ClassShares, served: str, refused: str, name: str) -> None:
    rows = [Row(view(t, name), slot, True, 100, 100, 1) for slot, t in enumerate(served)]
    made.served(0.0, running_batch(rows))
    made.asked([view(t, name) for t in refused])


def over(found: ClassShares, waiting: str, name: str = "chat") -> list[float]:
    table = WaitingTable()
    for seq, tenant in enumerate(waiting):
        table.add(view(tenant, name, seq), float(seq))
    rows: Any = list(range(len(waiting)))
    excess = found.over_share(table, rows)
    return [0.0] * len(waiting) if excess is None else excess.tolist()


def test_three_to_one_is_level_and_one_more_is_over() -> None:
    level = shares("aaab" * 4, "ab" * 20)
    assert level.on
    assert over(level, "ab") == [0.0, 0.0]
    more = shares("aaabb" * 4, "ab" * 20)  # 20 s: 15 and 5 would be fair, it was 12 and 8
    assert over(more, "ab") == pytest.approx([0.0, 8.0 / 5.0])
    less = shares("aaaaaab" * 4, "ab" * 20)  # 28 s: 21 and 7, it was 24 and 4
    assert over(less, "ab") == pytest.approx([24.0 / 21.0, 0.0])


def test_one_that_asks_for_less_than_its_part_leaves_the_rest_to_the_others() -> None:
    # a has all the 2 s it wants; of the other 18 s b and c, which want more, have nine each.
    assert over(shares("aa" + "b" * 9 + "c" * 9, "bc" * 20), "abc") == [0.0] * 3


def test_an_idle_tenant_costs_nothing() -> None:
    assert over(shares("b" * 20, "b" * 20), "b") == [0.0]


def test_a_class_is_a_world_of_its_own() -> None:
    found = shares("aaab" * 4, "ab" * 20, "chat")
    book(found, "bbbbbbbb", "ab" * 20, "batch")
    assert over(found, "ab", "chat") == [0.0, 0.0]
    first, second = over(found, "ab", "batch")
    assert (first, second > 1.0) == (0.0, True)


def test_without_weights_all_classes_share_alike_and_only_when_asked_to() -> None:
    served, refused = "x" * 9 + "y", "xy" * 9
    assert not shares(served, refused).on
    assert over(shares(served, refused), "xy") == [0.0, 0.0]
    asked = shares(served, refused, most=1.25)
    book(asked, "", "", "batch")
    assert over(asked, "xy", "batch") == pytest.approx([9.0 / 5.0, 0.0])


def test_weighted_and_unweighted_requests_are_kept_apart() -> None:
    found = shares("x" * 9 + "y", "xy" * 9, most=1.25)
    book(found, "aaab" * 4, "ab" * 20, "chat")
    assert over(found, "xyab") == pytest.approx([9.0 / 5.0, 0.0, 0.0, 0.0])


def test_classes_that_come_and_go_are_forgotten() -> None:
    found = ClassShares(0.0, lambda _: 1.0)
    for number in range(1000):
        found.asked([view("a", f"class {number}")])
    assert len(found._by_class) == 256
    assert math.isfinite(sum(over(found, "ab", "class 999")))
