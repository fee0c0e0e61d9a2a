"""Who has more than a fair share of the engine? By hand: every request takes one second."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.policies.scorpio.class_shares import ClassShares
from scorpio.core.policies.scorpio.fair_share import TenantShares
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.tenants import tenant_id, tenant_key
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import NOW_S, Row, Scene, limits, proven, running_batch, snapshot


def view(tenant: str) -> RequestView:
    return RequestView(tenant, 1, 0.0, 100, 512, Slo(1.0, 0.05), tenant=tenant)


def shares(served: str, refused: str = "", now_s: float = 0.0) -> TenantShares:
    """Tenants are letters, one for each request."""
    made = TenantShares(1.25, lambda _: 1.0)
    book(made, now_s, served, refused)
    return made


def book(made: TenantShares, now_s: float, served: str, refused: str) -> None:
    made.joined(now_s, list(map(view, served)))
    made.asked(map(view, refused))


def over(found: TenantShares, waiting: str) -> list[float]:
    excess = found.over_share(np.array([tenant_key(t) for t in waiting], dtype=np.float64))
    return [0.0] * len(waiting) if excess is None else excess.tolist()


def test_the_one_that_crowds_out_others() -> None:
    # 10 s served. a and b asked for 3 each, m for 9: a and b should have 3, m the other 4.
    assert over(shares("abmmmmmmmm", "aabbm"), "mab") == pytest.approx([2.0, 0.0, 0.0])


def test_one_that_takes_what_others_leave_is_not_over() -> None:
    assert over(shares("abmmmmmmmm"), "mab") == [0.0, 0.0, 0.0]  # none was refused
    assert over(shares("abmmmmmmmm", "mmm"), "mab") == [0.0, 0.0, 0.0]  # only m itself


def test_large_ones_that_share_alike_are_not_over() -> None:
    # Three large, two small: the small have all they want; the large are level.
    assert over(shares("xxxxyyyyzzzzsst", "xxxyyyzzz"), "xyzst") == [0.0] * 5


def test_one_that_runs_on_is_not_booked_again() -> None:
    found = ClassShares(1.25, lambda _: 1.0)
    rows = [Row(view(t), slot, False, 100, 100, 1) for slot, t in enumerate("mmmb")]
    found.served(0.0, running_batch(rows))
    assert not found._equal._used_s


def test_without_shares_tenants_are_not_looked_at() -> None:
    found = TenantShares(0.0, lambda _: 1.0)
    book(found, 0.0, "abmmmmmmmm", "aabbm")
    assert over(found, "mab") == [0.0, 0.0, 0.0]
    assert not found._asked_s


def test_a_name_that_is_no_text_has_a_key() -> None:
    """JSON lets half a surrogate pair through, and an exception here would end the engine."""
    assert tenant_key("\ud800") != tenant_key("")


def test_a_lone_tenant_has_no_share_to_keep_to() -> None:
    assert over(shares("", ""), "a") == [0.0]
    assert over(shares("aaa", "aaa"), "a") == [0.0]


def over_ids(found: TenantShares, *waiting: str) -> list[float]:
    excess = found.over_share(np.array([tenant_key(t) for t in waiting], dtype=np.float64))
    return [0.0] * len(waiting) if excess is None else excess.tolist()


def many(found: TenantShares, served: list[str], refused: list[str]) -> TenantShares:
    found.joined(0.0, list(map(view, served)))
    found.asked(map(view, refused))
    return found


@pytest.mark.parametrize("account", ["", "key-2"])
def test_a_fresh_name_for_each_request_is_one_tenant(account: str) -> None:
    """150 s served, a third to each; the third that made up 50 names asks for 850 s more."""
    a, b = ("a", "b") if not account else ("key-0/", "key-1/")
    names = [tenant_id(account, f"atk{i}") for i in range(5000)]
    found = many(TenantShares(1.25, lambda _: 1.0), [a, b] * 50 + names[:50], names[50:4999])
    assert over_ids(found, a, b, names[1], names[4999]) == [0.0] * 4
    # and once it has more than the others, all its names are over, those not seen yet, too
    many(found, names[50:150], [a, b] * 100)
    over_now = over_ids(found, a, b, names[1], names[4999])
    assert over_now[:2] == [0.0, 0.0]
    assert over_now[2] == over_now[3] > 1.25


def test_names_divide_the_share_of_their_account_only() -> None:
    # k0 asked for 4 and has 4; k1's two users have 8 and 4 of the 16 served.
    served = ["k0/"] * 4 + ["k1/u"] * 8 + ["k1/v"] * 4
    found = many(TenantShares(1.25, lambda _: 1.0), served, ["k0/"] * 8 + ["k1/v"] * 8)
    k0, u, v, w = over_ids(found, "k0/", "k1/u", "k1/v", "k1/w")
    assert (k0, v, w) == (0.0, 1.5, 1.5)  # the account has 12 of the 8 that are its part
    assert u == pytest.approx(1.5 * 8 / 6)  # and u 8 of the 6 that are its part of that


def test_no_name_counts_as_another_account() -> None:
    ids = [tenant_id("", "key-1/"), tenant_id("key-0", "key-1/"), tenant_id("key-1", "")]
    ids += [tenant_id("", "key-1"), tenant_id("key-1", "x"), tenant_id("", "x/y"), ""]
    keys = [tenant_key(i) for i in ids]
    assert len(set(keys)) == len(keys)
    accounts = [key >> 21 for key in keys]
    assert accounts[2] == accounts[4]
    assert accounts[0] == accounts[3] == accounts[5] == accounts[6]
    assert len({accounts[0], accounts[1], accounts[2]}) == 3
    assert all(int(float(key)) == key < 2**53 for key in keys)


def test_old_times_are_forgotten() -> None:
    found = shares("mmmmmmma", "aaaaaaa")
    assert over(found, "ma")[0] > 0.0
    book(found, 100.0, "aaaa", "mmmm")
    assert over(found, "ma")[0] == 0.0
    assert over(found, "ma")[1] > 0.0


@pytest.mark.parametrize("now_s", [-1e9, 0.0, 1e12])
def test_a_clock_that_jumps_breaks_nothing(now_s: float) -> None:
    found = shares("ab", now_s=50.0)
    book(found, now_s, "bbbbbb", "aaaaaa")
    assert over(found, "ab")[1] > 1.0


def test_what_is_remembered_is_bounded() -> None:
    found = TenantShares(1.25, lambda _: 1.0)
    for number in range(3000):
        found.asked([view(f"t{number}")])
    book(found, 0.0, "mmm", "a")
    assert len(found._asked_s) == 1024
    assert found._used_s == {tenant_key("m"): pytest.approx(3.0)}


def test_the_table_keeps_the_tenant_with_its_row() -> None:
    table = WaitingTable()
    for number, name in enumerate(("late", "early")):
        table.add(replace(view(name), request_id=name, seq=number), float(-number))
    assert table.tenant.tolist() == [tenant_key("early"), tenant_key("late")]


@pytest.mark.parametrize(("room", "refused"), [(1.0, []), (16.0, ["w"])])
def test_one_of_a_tenant_over_its_share_needs_room(room: float, refused: list[str]) -> None:
    # Of each 30 ms a step leaves 19.9 for prefill, in 0.5 s some 3,300 tokens: 400 of its own, but
    # not sixteen times as many.
    step = StepModel(0.010, 1e-4, 1e-4, 96.0, 0.0, 0.0, 0.0)
    profile = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "hand")
    bounds = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)
    options = ScorpioOptions(
        light_share=0.0, borrow_queue_s=0.0, tenant_share=1.25, tenant_room=room
    )
    policy = proven(Scorpio(profile, bounds, options), profile)
    book(policy._tenants._equal, NOW_S, "mmmmmmmmab", "aaaabbbb")
    mine = RequestView("w", 2, NOW_S, 400, 64, Slo(0.5, 0.03), tenant="m")
    running = RequestView("d", 1, NOW_S, 10, 64, Slo(math.inf, 0.03))
    scene = Scene(bounds, (Row(running, 0, False, 9, 10, 1),), ((mine, False),))
    made = policy.plan(NOW_S, snapshot(policy, scene))
    assert [r.request_id for r in made.reject] == refused


class Counted(dict[int, float]):
    """Counts how often it is gone through."""

    passes = 0

    def items(self) -> Any:
        self.passes += 1
        return super().items()


def test_many_accounts_cost_one_pass_over_their_names() -> None:
    found = TenantShares(1.25, lambda _: 1.0)
    names = [f"key-{number}/u" for number in range(500)]
    many = [names[0]] * 100 + names
    found.joined(0.0, list(map(view, many)))
    found.asked(map(view, names * 2))
    found._asked_s = Counted(found._asked_s)
    excess = found.over_share(np.array([float(tenant_key(name)) for name in names[:2]]))
    assert excess is not None
    assert excess[0] > 1.25
    assert excess[1] == 0.0
    assert found._asked_s.passes == 1


def test_engine_time_of_a_request_is_its_prompt_and_its_answer() -> None:
    """Attention too: 1 us a token and prefix, 10 us a token of a decode's context."""
    step = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 1e-6, 1e-5)
    speed = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "test")
    policy = proven(Scorpio(speed, limits(), ScorpioOptions()), speed)
    asked = replace(view("a"), predicted_output_tokens=40.0)
    output = policy._lengths.expected_of(asked)
    assert policy._request_s(asked) == pytest.approx(
        100 * (0.001 + 1e-6 * 50) + output * (0.001 + 1e-5 * (100 + 0.5 * output)), rel=1e-12
    )


def test_the_fixed_part_of_a_step_is_the_profiles_or_todays_whichever_is_less() -> None:
    step = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 1e-6, 1e-5)
    speed = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "test")
    policy = proven(Scorpio(speed, limits(), ScorpioOptions()), speed)
    assert policy._fixed_s(replace(step, base_s=0.005)) == pytest.approx(0.006)
    assert policy._fixed_s(replace(step, base_s=0.050)) == pytest.approx(0.011)
