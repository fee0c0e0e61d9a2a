"""Is recorded traffic served again as it was, and are answers about it what the runs say?"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.ledger.facts import Facts
from scorpio.ledger.files import LedgerError, read_ledger
from scorpio.studies.recorded.answers import TimeError, class_answers, majority, time_errors
from scorpio.studies.recorded.runs import Served, fitted, run_all
from scorpio.studies.recorded.traffic import FITTED, Recorded, recorded_traffic, shadow_of
from scorpio.studies.recorded.words import how_wrong, reservations
from tests.ledger.made import entry, refused, write
from tests.studies.yesterday import GPU, LOAD, config, served
from workloads.errors import WorkloadError
from workloads.load import LoadKey
from workloads.results.records import Outcome, RequestRecord

FACTS = Facts(since_unix_s=1.7e9, engine=0, version="0.1.0", policy="fcfs")


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run_dir of an overloaded server under `fcfs`, which `scorpio` watched."""
    return served(tmp_path_factory.mktemp("run"))


def with_facts(run_dir: Path, *facts: Facts) -> None:
    """At the head of its ledger."""
    path = run_dir / channel.LEDGER
    path.write_text("".join(fact.to_line() for fact in facts) + path.read_text())


def test_all_that_the_twin_needs_is_in_the_ledger(yesterday: Path) -> None:
    traffic = recorded_traffic(read_ledger(yesterday))
    assert (traffic.policy, shadow_of(traffic)) == ("fcfs", ("scorpio", {}))
    assert traffic.engine == config().engine
    assert traffic.profile is not None
    assert traffic.gpu is not None
    assert (traffic.gpu.step, traffic.gpu.gap_s) == (traffic.profile.step, 0.0)
    first_s = min(request.send_s for request in LOAD.requests())
    sent = sorted(LOAD.requests(), key=lambda r: (r.send_s, r.index))
    for ours, theirs in zip(traffic.requests, sent, strict=True):
        assert ours.send_s == pytest.approx(theirs.send_s - first_s, abs=2e-6)
        assert (ours.prompt_tokens, ours.slo_class) == (theirs.prompt_tokens, theirs.slo_class)
        assert (ours.ttft_slo_s, ours.tpot_slo_s) == (theirs.ttft_slo_s, theirs.tpot_slo_s)
        assert ours.output_tokens == theirs.output_tokens
        assert ours.max_tokens == 4096
        assert ours.predicted_tokens is not None
    assert len(traffic.compared) == len(sent)
    assert len(recorded_traffic(read_ledger(yesterday), last=40).requests) == 40


@pytest.mark.parametrize("policy", ["fcfs", "scorpio"])
def test_served_again_on_the_same_engine_it_is_what_happened(policy: str, tmp_path: Path) -> None:
    """To the rounding of the ledger: same GPU, same noise (seed 1), same predictions."""
    run_dir = served(tmp_path, policy=policy, shadow="edf")
    traffic = recorded_traffic(read_ledger(run_dir))
    exact = replace(traffic, gpu=config().gpu)
    ((_, again),) = run_all(exact, [Served("as it was", exact.requests, policy)], 2, 1)
    if policy == "scorpio":  # what it refused has no length, and these are let in as chance has it
        same = sum(a.good == r.good for a, r in zip(again, traffic.real, strict=True))
        assert same >= 0.95 * len(again)
        return
    for ours, theirs in zip(again, traffic.real, strict=True):
        assert (ours.outcome, ours.output_tokens) == (theirs.outcome, theirs.output_tokens)
        assert ours.ttft_s == pytest.approx(theirs.ttft_s, abs=2e-6)
        assert ours.tpot_s == pytest.approx(theirs.tpot_s, abs=2e-6)


def test_only_what_one_engine_served_under_one_policy(tmp_path: Path) -> None:
    at_s = 1.8e9
    write(tmp_path, *(entry(id=f"a{n}", arrived_unix_s=at_s + n, policy="edf") for n in range(9)))
    with_facts(
        tmp_path,
        replace(FACTS, since_unix_s=at_s - 9.0, policy="sjf"),
        replace(FACTS, since_unix_s=at_s + 3.0, policy="edf"),
        replace(FACTS, since_unix_s=at_s + 5.0, policy="edf"),  # a restart
        replace(FACTS, since_unix_s=at_s + 99.0, policy="scorpio"),  # nothing came since
    )
    traffic = recorded_traffic(read_ledger(tmp_path), gpu=GPU)
    assert traffic.policy == "edf"
    assert [one.id for one in traffic.entries] == [f"a{n}" for n in range(3, 9)]


def test_traffic_of_several_engines_is_not_asked_of_one(tmp_path: Path) -> None:
    write(tmp_path, entry(policy="fcfs"))
    write(tmp_path, entry(id="b", engine=1, policy="fcfs"), name="ledger-1.jsonl")
    several = r"of 2 data-parallel engines; .*: name .* \(ledger.jsonl, ledger-1.jsonl\)"
    with pytest.raises(LedgerError, match=several):
        recorded_traffic(read_ledger(tmp_path), gpu=GPU)
    one = recorded_traffic(read_ledger(tmp_path / "ledger-1.jsonl"), gpu=GPU)
    assert [request.id for request in one.entries] == ["b"]
    fleet = tmp_path / "fleet"
    (fleet / "a").mkdir(parents=True)
    (tmp_path / "ledger.jsonl").rename(fleet / "a/ledger.jsonl")
    with pytest.raises(LedgerError, match=r"of a fleet; .*: name a replica's folder in it \(a\)"):
        recorded_traffic(read_ledger(fleet), gpu=GPU)
    assert len(recorded_traffic(read_ledger(fleet / "a"), gpu=GPU).entries) == 1


def test_what_is_missing_or_wrong_is_told(tmp_path: Path) -> None:
    write(tmp_path, entry(policy="fcfs"), refused(policy="fcfs"), entry(id="c", policy="edf"))
    old = read_ledger(tmp_path)
    with pytest.raises(WorkloadError, match="an older version, which says nothing of its engine"):
        recorded_traffic(old)
    assert recorded_traffic(old, gpu=GPU, options={"max_num_seqs": 7}).engine.max_num_seqs == 7
    assert recorded_traffic(old, gpu=GPU).policy == "fcfs"  # most of them
    with pytest.raises(WorkloadError, match="had no latency profile, and 2 answers under 'fcfs'"):
        recorded_traffic(replace(old, facts=(FACTS,)))
    with pytest.raises(WorkloadError, match=r"2 answers under 'edf' are not enough .*100 under"):
        recorded_traffic(replace(old, facts=(replace(FACTS, policy="edf"),)), gpu=FITTED)
    with pytest.raises(WorkloadError, match="an older version"):
        recorded_traffic(old, gpu=FITTED)
    with pytest.raises(LedgerError, match="under policy 'mine': unknown policy 'mine'; valid: edf"):
        recorded_traffic(replace(old, facts=(replace(FACTS, policy="mine"),)))
    with pytest.raises(LedgerError, match="latency profile: `decode` is missing"):
        recorded_traffic(replace(old, facts=(replace(FACTS, latency={"step": 3}),)))
    left = replace(old, entries=(entry(outcome="aborted"),))
    with pytest.raises(LedgerError, match="none of its requests was served to the end or refused"):
        recorded_traffic(left, gpu=GPU)
    with pytest.raises(LedgerError, match="none of its requests had a prompt"):
        recorded_traffic(replace(old, entries=(entry(prompt_tokens=0),)), gpu=GPU)


def test_a_request_whose_client_left_loads_the_twin_and_is_in_no_share(tmp_path: Path) -> None:
    left = entry(id="b", arrived_unix_s=1.8e9 + 1, outcome="aborted", output_tokens=9)
    write(tmp_path, entry(policy="fcfs"), left)
    traffic = recorded_traffic(read_ledger(tmp_path), gpu=GPU)
    assert [request.output_tokens for request in traffic.requests] == [51, 9]
    assert traffic.compared == {0}


def test_without_a_profile_the_speed_is_fitted_to_what_came(tmp_path: Path) -> None:
    load = LoadKey("azure-conv-synth", "0:110", "six", 0.7, 0)
    run_dir = served(tmp_path, load)
    book = read_ledger(run_dir)
    told = tuple(replace(fact, latency=None) for fact in book.facts)
    traffic = recorded_traffic(replace(book, facts=told))
    assert (traffic.gpu, traffic.profile) == (None, None)
    asked = recorded_traffic(book, gpu=FITTED)  # its profile is there, and not believed
    assert asked.gpu is None
    assert asked.profile is not None
    traffic = fitted(traffic)
    (runs,) = run_all(traffic, [Served("again", traffic.requests, "fcfs")], 1, 1)
    errors = {row.metric: row.error for row in time_errors(traffic.real, runs, traffic.compared)}
    assert abs(errors["TPOT p50"]) < 0.05
    assert abs(errors["TTFT p50"]) < 0.15


def record(index: int, ttft_s: float = 0.5, name: str = "a", **what: Any) -> RequestRecord:
    """Good when its TTFT is at most 1 s."""
    told: dict[str, Any] = {
        "scheduled_send_s": float(index),
        "outcome": Outcome.FINISHED,
        "first_token_s": index + ttft_s,
        "last_token_s": index + ttft_s + 0.1,
        "output_tokens": 2,
    }
    return RequestRecord(index=index, slo_class=name, send_s=float(index), prompt_tokens=1,
                         ttft_slo_s=1.0, **(told | what))  # fmt: skip


def test_answers_are_counted_by_class_and_paired_by_request() -> None:
    before = [[record(0), record(1, 2.0), record(2, 2.0, "b"), record(3, 2.0, "b")]]
    after = [
        [record(0), record(1), record(2, 2.0, "b"), record(3, 0.5, "b"), record(9, 0.5, "new")],
        [record(0, 2.0), record(1), record(2, 0.5, "b"), record(3, 0.5, "b"), record(9, 5, "new")],
    ]
    whole, a, b, new = class_answers(before, after)
    assert [one.name for one in (whole, a, b, new)] == ["all", "a", "b", "new"]
    assert [one.requests for one in (whole, a, b, new)] == [4, 2, 2, 1]
    assert whole.before is not None
    assert whole.gain is not None
    assert (whole.before.mean, whole.after.mean, whole.gain.mean) == (0.25, 0.75, 0.5)
    assert a.gain is not None
    assert (a.after.mean, a.gain.mean) == (0.75, 0.25)
    assert (b.after.mean, new.before, new.gain, new.after.mean) == (0.75, None, None, 0.5)
    only = class_answers(before, after, {0, 1})
    assert [(one.name, one.requests) for one in only] == [("all", 2), ("a", 2)]
    assert majority(after, lambda r: r.good) == {1, 3}


def test_time_errors_are_those_of_requests_served_in_both() -> None:
    real = [record(n, 0.2 + 0.01 * n) for n in range(40)]
    gone: dict[str, Any] = {
        "outcome": Outcome.REJECTED,
        "reject_reason": "x",
        "first_token_s": None,
    }
    gone |= {"last_token_s": None, "output_tokens": 0}
    twin = [[record(n, 1.1 * (0.2 + 0.01 * n)) for n in range(39)] + [record(39, **gone)]]
    found = {row.metric: row for row in time_errors(real, twin, set(range(40)))}
    assert found["TTFT mean"].error == pytest.approx(0.1)
    assert found["TTFT p50"].real_ms == pytest.approx(390.0)
    assert found["TPOT p90"].error == pytest.approx(0.0, abs=1e-9)
    assert not time_errors(real, twin, set(range(10)))


def test_facts_and_numbers_survive_json(yesterday: Path) -> None:
    traffic = recorded_traffic(read_ledger(yesterday), last=20)
    assert isinstance(traffic, Recorded)
    assert json.dumps(traffic.facts and traffic.facts.limits)
    assert all(math.isfinite(record.end_s) for record in traffic.real)


def test_a_twin_that_is_another_engine_says_so() -> None:
    """Attainment may be right by chance; the times are not."""
    before, after = [[record(0), record(1)]], [[record(0), record(1)]]
    error = class_answers(before, after)
    near, far = TimeError("TTFT p50", 100.0, 110.0), TimeError("TPOT mean", 10.0, 13.0)
    assert "another engine" not in how_wrong(error, [near])
    assert "--recorded-gpu fitted" in how_wrong(error, [near, far])


def test_what_the_twin_does_not_have_is_told(tmp_path: Path) -> None:
    write(tmp_path, entry(policy="fcfs"))
    with_facts(tmp_path, replace(FACTS, limits={"num_speculative_tokens": 3, "max_num_seqs": 7}))
    traffic = recorded_traffic(read_ledger(tmp_path), gpu=GPU)
    assert (traffic.engine.max_num_seqs, traffic.engine.num_speculative_tokens) == (7, 0)
    assert any("had speculative decoding" in text for text in reservations(traffic, 3))
    plain = recorded_traffic(replace(read_ledger(tmp_path), facts=()), gpu=GPU)
    assert not any("speculative" in text for text in reservations(plain, 3))
