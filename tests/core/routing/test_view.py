"""Is what a router believes of its fleet what was told, plus what it sent since?"""

from __future__ import annotations

import json
import math

import pytest

from scorpio.core.routing.fleet_view import MOST_UNSEEN
from scorpio.core.routing.forecast import drain_s, forecasts
from scorpio.core.routing.load import DUE_S, Replica, ReplicaLoad, by_due, counted
from scorpio.core.routing.prefixes import PrefixIndex
from tests.core.routing.fleets import replica, request, view


def test_prefill_work_is_told_by_when_it_is_due() -> None:
    told = by_due([0.1, 0.25, 0.26, -3.0, 40.0, math.inf], [10, 1, 5, 7, 2, 3])
    assert told == (18, 5, 0, 0, 0, 0, 0, 0, 5)
    assert len(told) == len(DUE_S)


def test_a_batch_is_told_tightest_first() -> None:
    assert counted([0.05, 0.03, 0.05, math.inf]) == ((0.03, 1), (0.05, 2), (math.inf, 1))


def test_a_load_is_a_line_of_json() -> None:
    load = ReplicaLoad(1.5, 3, 2, 900, 5000, by_due([0.4], [12]), counted([0.03, math.inf]))
    told = json.loads(json.dumps(load.to_dict(), allow_nan=False))
    assert told["prefill_tokens"] == [0, 12, 0, 0, 0, 0, 0, 0, 0]
    assert ReplicaLoad.from_dict(told, 1.5) == load
    assert ReplicaLoad.from_dict(told, 9.0).at_s == 9.0  # on the reader's clock


def test_a_load_of_another_version_is_read_as_far_as_it_is_known() -> None:
    assert ReplicaLoad.from_dict({"running": 2, "new": [1]}, 0.0) == ReplicaLoad(0.0, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [("running", "many"), ("batch", [[1]]), ("batch", 3), ("prefill_tokens", [1, 2]),
     ("prefill_tokens", None), ("waiting_batch", [["x", 1]])],
)  # fmt: skip
def test_a_load_that_is_none_names_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"load: {field}: "):
        ReplicaLoad.from_dict({field: value}, 0.0)


def test_a_replica_is_a_line_of_json() -> None:
    one = replica(0.02, 7)
    assert Replica.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    for wrong in ({}, {"step": 3}, one.to_dict() | {"kv_tokens": "x"}):
        with pytest.raises(ValueError, match="replica: "):
            Replica.from_dict(wrong)


def test_a_replica_joins_in_the_place_of_one_that_is_gone() -> None:
    fleet = view(2)
    fleet.send(0, request(prefix=(1, 2)), 0.0)
    fleet.send(1, request(1), 0.0)
    fleet.remove(0)
    assert fleet.alive.tolist() == [False, True]
    assert fleet.add(replica(0.02, 7)) == 0
    assert (fleet.requests[0], fleet.queued_tokens[0]) == (0, 0)
    assert fleet.base_s.tolist() == [0.02, 0.01]
    assert fleet.full_s[0] == pytest.approx(fleet.full_s[1] + 0.01)
    assert fleet.new_tokens(request(prefix=(1, 2)))[0] == 1000  # its cache is another's
    assert fleet.add(replica()) == 2
    assert len(fleet) == len(fleet.alive) == len(fleet.prefill_tokens) == 3


def test_one_that_is_new_or_back_does_not_get_all_turns() -> None:
    fleet = view(2)
    for seq in range(6):
        fleet.send(seq % 2, request(seq), 0.0)
    fleet.add(replica())
    assert fleet.sent.tolist() == [3, 3, 3]
    fleet.allow(0, False)
    for seq in range(8):
        fleet.send(1 + seq % 2, request(seq), 0.0)
    fleet.allow(0, True)
    assert fleet.sent.tolist() == [7, 7, 7]
    fleet.allow(1, True)  # it was there
    assert fleet.sent[1] == 7


def test_what_was_sent_counts_at_once() -> None:
    fleet = view(2)
    fleet.send(1, request(prompt=300, ttft_s=0.9, tpot_s=0.03), 0.0)
    assert fleet.requests.tolist() == [0, 1]
    assert fleet.queued_tokens.tolist() == [0, 300]
    assert fleet.prefill_tokens[1].tolist() == [0, 0, 300, 0, 0, 0, 0, 0, 0]
    assert fleet.tightest_s.tolist() == [math.inf, 0.03]
    assert fleet.kv_free_tokens.tolist() == [100_000, 99_700]


def test_a_report_replaces_what_it_can_have_seen_and_no_more() -> None:
    fleet = view(1, delay_s=0.1)
    for seq, at_s in enumerate((0.0, 0.35, 0.45)):
        fleet.send(0, request(seq, at_s, prompt=100), at_s)
    fleet.report(0, ReplicaLoad(0.4, running=1, kv_free_tokens=50_000, batch=((0.05, 1),)))
    assert (fleet.running[0], fleet.waiting[0]) == (1, 2)  # 0.35 was still on its way
    assert fleet.queued_tokens[0] == 200
    fleet.report(0, ReplicaLoad(0.6))
    assert (fleet.running[0], fleet.waiting[0], fleet.queued_tokens[0]) == (0, 0, 0)
    assert fleet.tightest_s[0] == math.inf


def test_what_waits_binds_as_what_runs() -> None:
    fleet = view(1)
    fleet.report(0, ReplicaLoad(1.0, 1, 1, batch=((0.05, 1),), waiting_batch=((0.03, 1),)))
    assert fleet.tightest_s[0] == 0.03


def test_forecasts_are_those_of_a_step_as_long_as_the_tightest_target() -> None:
    fleet = view(2)
    fleet.report(1, ReplicaLoad(0.0, running=10, prefill_tokens=by_due([0.5, 8.0], [1000, 5000])))
    found = forecasts(fleet, request(prompt=1000, tpot_s=0.05), 0.0)
    alone_s = [0.010 + 0.00005, 0.010 + 0.00005 * 11]
    assert found.tpot_s == pytest.approx(alone_s)
    share = [1 - alone_s[0] / 0.05, 1 - alone_s[1] / 0.05]
    # 5,000 tokens due later stand behind it.
    expected_s = [alone_s[0] + 0.1 / share[0], alone_s[1] + 0.2 / share[1]]
    assert found.ttft_s == pytest.approx(expected_s)
    assert found.keeps(request(ttft_s=0.2), 0.0).tolist() == [True, False]
    new = fleet.new_tokens(request(prompt=1000))
    assert drain_s(fleet, request(), new)[1] == pytest.approx(0.7 / share[1])


def test_a_target_out_of_reach_does_not_shorten_steps() -> None:
    fleet = view(1)
    slow = forecasts(fleet, request(tpot_s=0.005), 0.0)
    loose = forecasts(fleet, request(tpot_s=math.inf), 0.0)
    assert slow.ttft_s == pytest.approx(loose.ttft_s)
    assert not slow.keeps(request(ttft_s=9.0, tpot_s=0.005), 0.0).any()


def test_without_a_seat_there_is_no_first_token() -> None:
    fleet = view(1)
    fleet.report(0, ReplicaLoad(0.0, running=60, waiting=4))
    assert forecasts(fleet, request(), 0.0).ttft_s[0] == math.inf


def test_a_beginning_is_looked_for_where_all_of_it_was_sent() -> None:
    index = PrefixIndex(3)
    index.put(0, request(prefix=(1, 2, 3)))
    index.put(1, request(prefix=(1, 2)))
    assert index.hits(request(prompt=1000, prefix=(1, 2, 3, 4))).tolist() == [300, 200, 0]
    assert index.hits(request(prompt=1000, prefix=(9, 2, 3))).tolist() == [0, 0, 0]
    # One token at least is computed.
    assert index.hits(request(prompt=200, prefix=(1, 2))).tolist() == [199, 199, 0]


def test_a_lost_cache_is_forgotten_and_the_oldest_blocks_too() -> None:
    index = PrefixIndex(2, most_blocks=2)
    index.put(0, request(prefix=(1, 2)))
    index.put(1, request(prefix=(1,)))
    index.forget(0)
    assert index.hits(request(prefix=(1, 2))).tolist() == [0, 100]
    index.put(0, request(prefix=(7, 8)))
    assert index.hits(request(prefix=(1,))).tolist() == [0, 0]


def test_what_a_replica_that_hangs_was_sent_has_a_bound() -> None:
    made = view(1)
    for n in range(MOST_UNSEEN + 5):
        made.send(0, request(n), float(n))
    made.report(0, ReplicaLoad(-1.0))
    assert made.waiting[0] == MOST_UNSEEN
