"""Does the decision log say what the twin did, and change nothing of it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scorpio.ledger.decision import MOST_NAMED, Decision, decision_of
from scorpio.ledger.instead import explain_decision
from scorpio.twin.clients import ClientSpec
from scorpio.twin.engine import decision_log
from scorpio.twin.run import TwinRun, run_twin
from tests.twin.driving import SMALL, promised, toy_config
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome

POLICIES = ("fcfs", "fcfs+queue-cap", "priority-edf", "scorpio", "scorpio-paper")


def crowd(n: int = 90) -> list[WorkloadRequest]:
    """More than the toy engine can serve in time: long ones with loose promises, short ones with
    tight ones."""
    return [
        promised(i, 0.01 * i, 150, 30, 0.8) if i % 3 else promised(i, 0.01 * i, 20, 5, 0.2)
        for i in range(n)
    ]


def logged(policy: str, n: int = 90, **more: Any) -> TwinRun:
    return run_twin(toy_config(log_decisions=True, **more), crowd(n), policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_request_has_the_line_that_its_record_bears_out(policy: str) -> None:
    run = logged(policy)
    assert [d.index for d in run.decisions] == [r.index for r in run.records]
    for known, record in zip(run.decisions, run.records, strict=True):
        entry = known.entry
        assert (entry.verdict == "refused") == (record.outcome is Outcome.REJECTED)
        assert (entry.missed == ()) == (record.miss is None)
        assert (entry.first_token_ms is None) == (record.first_token_s is None)
        if record.ttft_s is not None:
            assert entry.first_token_ms == pytest.approx(record.ttft_s * 1e3, abs=1e-3)
            assert entry.started_ms is not None
            assert entry.first_token_ms is not None
            assert 0.0 <= entry.started_ms <= entry.first_token_ms
        assert decision_of(known.to_line()) == known
        assert explain_decision(known)[0].startswith(f"request {record.index}: ")


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_else_changes(policy: str) -> None:
    run = logged(policy)
    plain = run_twin(toy_config(), crowd(), policy)
    assert plain.decisions == ()
    assert (plain.event_digest, plain.records) == (run.event_digest, run.records)


def test_in_order_of_arrival_none_is_overtaken_and_by_deadline_some_are() -> None:
    starts = {policy: logged(policy).decisions for policy in ("fcfs", "priority-edf")}
    assert not any(d.overtaken_by for d in starts["fcfs"])
    late = [d for d in starts["priority-edf"] if d.overtaken_by]
    assert late
    assert all(d.index % 3 for d in late)  # the loose ones
    for known in late:
        young = [other for other in known.started if other.came_ms > 0.0]
        assert len(young) <= known.overtaken_by
        assert all(other.index > known.index for other in young)


def test_who_was_kept_when_one_was_refused() -> None:
    run = logged("scorpio")
    refused = [d for d in run.decisions if d.entry.verdict == "refused"]
    assert refused
    for known in refused:
        assert known.index not in [other.index for other in known.kept]
        assert len(known.kept) == min(known.waiting, MOST_NAMED)
        due = [float("inf") if o.due_ms is None else o.due_ms for o in known.kept]
        assert due == sorted(due)
    assert any(d.kept for d in refused)


def test_as_many_start_before_it_as_were_counted() -> None:
    run = logged("scorpio")
    came = {d.index: d.entry.arrived_unix_s for d in run.decisions}
    started = {
        d.index: came[d.index] + d.entry.started_ms / 1e3
        for d in run.decisions
        if d.entry.started_ms is not None
    }
    for known in run.decisions:
        if (mine_s := started.get(known.index)) is not None:
            between = [s for s in started.values() if came[known.index] - 1e-9 < s < mine_s - 1e-9]
            assert known.entry.starts >= len(between)


def test_each_try_has_its_line() -> None:
    run = logged("fcfs+queue-cap", clients=ClientSpec(retries=2))
    again = [d for d in run.decisions if d.tries > 1]
    assert again
    assert {d.tries for d in again} <= {2, 3}
    assert len(run.decisions) == sum(r.tries for r in run.records)
    assert explain_decision(again[0])[0].startswith(f"request {again[0].index}, try 2: ")


def test_a_client_that_leaves_before_its_start() -> None:
    left = [
        d
        for d in logged("fcfs", clients=ClientSpec(give_up_s=0.3)).decisions
        if d.entry.outcome == "aborted" and d.entry.started_ms is None
    ]
    assert left
    assert left[0].entry.verdict == "none"
    assert "before it started" in "\n".join(explain_decision(left[0]))


def test_what_is_above_the_bound_is_dropped_and_still_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole: tuple[Decision, ...] = logged("scorpio").decisions
    monkeypatch.setattr(decision_log, "MOST_REQUESTS", 20)
    assert logged("scorpio").decisions == whole[:20]


def test_a_request_that_is_never_let_in() -> None:
    run = run_twin(
        toy_config(replace(SMALL, max_model_len=100), log_decisions=True),
        [replace(promised(0, 0.0, 90, 5), output_tokens=20), promised(1, 0.1, 20, 5)],
        "fcfs",
    )
    said = explain_decision(run.decisions[0])
    assert said[0] == "request 0: failed after 0 ms."
    assert "longer than max_model_len" in run.decisions[0].entry.finish_reason
