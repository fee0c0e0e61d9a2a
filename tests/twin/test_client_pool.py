"""Does refused load come back? Clients that retry as they are told to, and clients that leave."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from scorpio.twin.clients import ClientSpec
from scorpio.twin.engine.client_pool import ClientPool
from scorpio.twin.engine.ledger import End, Entry
from scorpio.twin.run import TwinRun, run_twin
from tests.twin.driving import SMALL, arrival, promised, toy_config
from workloads.results.records import Outcome

# Forty at once: a first token for each takes over a second, and half a second is asked for.
CROWD = [promised(3 * i, 0.001 * i, prompt=60, output=8, ttft_s=0.5) for i in range(40)]


def _run(policy: str = "scorpio", **clients: Any) -> TwinRun:
    config = toy_config(clients=ClientSpec(**clients))
    return run_twin(config, CROWD, policy, 0)


def _refused(tries: int, end: End, retry_after_s: float | None, abort_s: float = math.inf) -> Entry:
    sent = arrival(5 + 10 * (tries - 1), 2.0, abort_s=abort_s)
    return Entry(sent, 0, end=end, end_s=3.0, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("entry", "back_s"),
    [
        (_refused(1, End.REJECTED, 4.0), 7.0),
        (_refused(1, End.REJECTED, 4000.0), 33.0),  # as much as HTTP tells
        (_refused(1, End.REJECTED, None), None),  # it can never be met
        (_refused(1, End.TURNED_AWAY, None), 3.5),
        (_refused(2, End.TURNED_AWAY, None), 4.0),
        (_refused(3, End.TURNED_AWAY, None), None),  # it has come back twice
        (_refused(1, End.REJECTED, 4.0, abort_s=7.0), None),  # it is not there any more
    ],
)
def test_when_a_refused_request_comes_back(entry: Entry, back_s: float | None) -> None:
    pool = ClientPool(ClientSpec(retries=2), 10)
    pool.ended(entry)
    again = pool.returning
    assert (None if again is None else again.arrival_s) == back_s
    if again is not None:
        assert again.index == entry.arrival.index + 10
        pool.sent(again)
        assert pool.returning is None


def test_refused_load_comes_back_and_costs_what_it_costs() -> None:
    once, again = _run(), _run(retries=2)
    refused = {r.index for r in once.records if r.outcome is Outcome.REJECTED}
    assert len(refused) > 10
    tries = {r.index: r.tries for r in again.records}
    assert list(tries) == [r.index for r in CROWD]
    assert all(tries[i] > 1 for i in refused)
    assert max(tries.values()) <= 3
    assert sum(r.output_tokens for r in again.records) > sum(r.output_tokens for r in once.records)
    assert {r.tries for r in once.records} == {1}


def test_promises_count_from_the_first_time_it_was_asked() -> None:
    for record in _run(retries=2).records:
        sent = CROWD[record.index // 3]
        assert record.send_s == record.scheduled_send_s == sent.send_s
        if record.tries == 1 or record.ttft_s is None:
            continue
        assert record.last_send_s is not None
        assert record.last_send_s - record.send_s > 0.5  # so late that the promise is broken
        assert not record.good
        assert record.ttft_s > record.last_send_s - record.send_s


def test_good_in_its_last_try_is_told_apart() -> None:
    records = _run(retries=2).records
    assert sum(r.good_in_last_try for r in records) > sum(r.good for r in records)
    assert all(r.good_in_last_try == r.good for r in records if r.tries == 1)


def test_clients_leave_when_they_have_waited_enough() -> None:
    records = _run("fcfs", give_up_s=0.4).records
    left = [r for r in records if r.outcome is Outcome.TIMED_OUT]
    assert 10 < len(left) < 40
    assert all(r.end_s >= r.send_s + 0.4 for r in left)
    assert all(r.end_s <= r.send_s + 0.45 for r in records if r.outcome is Outcome.FINISHED)


def test_stock_vllm_with_a_cap_is_asked_again_too() -> None:
    config = toy_config(replace(SMALL, max_num_queued_reqs=4), clients=ClientSpec(retries=5))
    records = run_twin(config, CROWD, "fcfs", 0).records
    assert max(r.tries for r in records) > 2
    assert len(records) == len(CROWD)


@pytest.mark.parametrize("policy", ["fcfs", "scorpio"])
@pytest.mark.parametrize("retries", [0, 3])
def test_in_a_closed_loop_a_request_waits_for_a_free_client(policy: str, retries: int) -> None:
    records = _run(policy, clients=4, retries=retries).records
    assert [r.index for r in records] == [r.index for r in CROWD]
    sends = sorted(r.send_s for r in records)
    assert sends == [r.send_s for r in records]  # in the order of the trace
    for record in records:
        assert record.lateness_s == 0.0
        there = [r for r in records if r.send_s <= record.send_s < r.end_s]
        assert len(there) <= 4
    assert records[-1].send_s > CROWD[-1].send_s
    assert [r.scheduled_send_s for r in records] == [r.send_s for r in CROWD]
    busy = sum(r.end_s - r.send_s for r in records) / (records[-1].end_s - records[0].send_s)
    assert busy == pytest.approx(4.0, rel=0.15)  # and a free one waits for none


def test_more_clients_than_requests_are_the_open_loop() -> None:
    assert _run(clients=99).event_digest == _run().event_digest


def test_a_client_that_waits_for_its_turn_does_not_give_up_before_it_asks() -> None:
    records = _run("fcfs", clients=4, give_up_s=0.3).records
    finished = [r for r in records if r.outcome is Outcome.FINISHED]
    assert len(finished) == len(records)
    assert max(r.end_s for r in finished) > CROWD[-1].send_s + 0.3


def test_the_same_seed_gives_the_same_run() -> None:
    assert _run(retries=3).event_digest == _run(retries=3).event_digest


@pytest.mark.parametrize(
    "wrong", [{"retries": -1}, {"retries": 101}, {"give_up_s": 0.0}, {"clients": -1}]
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ClientSpec(**wrong)
