"""One run and many: determinism, pool against serial, records, what a policy is told."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scorpio.core.latency import LatencyProfile
from scorpio.core.slo import SloBook
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.pool import Job, JobFailed, run_jobs
from scorpio.twin.run import PolicyFailed, TwinRun, policy_profile, run_twin
from scorpio.twin.translate import arrivals, slo_classes
from tests.twin.driving import SMALL, TOY, promised, toy_config, toy_step_s
from workloads.load import LoadKey
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace

NOISY = NoiseSpec(0.05, 0.01, 0.02)


def _crowd(n: int = 40, ttft_s: float = 0.2, tpot_s: float = 0.02) -> list[WorkloadRequest]:
    return [promised(i, 0.01 * i, 20 + i % 7, 5 + i % 11, ttft_s, tpot_s) for i in range(n)]


def _facts(run: TwinRun) -> tuple[object, ...]:
    return run.event_digest, run.log, run.records, run.steps, run.preemptions, run.timeline


@pytest.mark.parametrize("policy", ["fcfs", "scorpio-paper"])
def test_same_seed_same_events(policy: str) -> None:
    config = toy_config(noise=NOISY, lengths=LengthHint(0.6))
    runs = [run_twin(config, _crowd(), policy, seed) for seed in (1, 1, 2)]
    assert _facts(runs[0]) == _facts(runs[1])
    assert runs[0].event_digest != runs[2].event_digest


def _burst() -> TwinRun:
    """Several refusals in one step."""
    load = [promised(i, 0.001 * i, 40, 8, 0.05, 0.02) for i in range(60)]
    return run_twin(toy_config(), load, "scorpio", 0)


def test_same_seed_same_events_in_another_process() -> None:
    # Sets of strings come in another order there.
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.twin.test_run import _burst; print(_burst().event_digest)",
        ],
        env=os.environ | {"PYTHONHASHSEED": other},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[-1]
    here = _burst()
    assert told == here.event_digest
    assert sum(record.reject_reason is not None for record in here.records) > 10


def test_fcfs_as_a_policy_is_stock() -> None:
    # `fcfs` runs on the stock class; the same name as a policy inside ScorpioScheduler must agree.
    from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
    from tests.twin.driving import drive

    config = toy_config()
    stock = run_twin(config, _crowd(), "fcfs")
    load = arrivals(_crowd(), config, 0)
    told = {"policy": "fcfs", "classes": slo_classes(_crowd())}
    ours = drive(load, scheduler_cls=VirtualScorpioScheduler, settings=told)
    assert ours.log.digest() == stock.event_digest


def test_records_say_what_the_clients_saw() -> None:
    run = run_twin(toy_config(), [promised(7, 1.5, 20, 5, 0.5, 0.05)], "fcfs")
    (record,) = run.records
    assert (record.index, record.outcome, record.http_status) == (7, Outcome.FINISHED, 200)
    assert record.ttft_s == pytest.approx(toy_step_s(20))
    assert record.tpot_s == pytest.approx(toy_step_s(1))
    assert record.good
    assert run.stats.steps == run.steps


def test_stock_steps_are_counted() -> None:
    crowd, lone = _crowd(), [promised(0, 0.0, 20, 5, 5.0, 0.5)]
    stock = run_twin(toy_config(), crowd, "fcfs")
    assert stock.stock_steps == stock.steps > 0
    quiet = run_twin(toy_config(), lone, "scorpio")
    assert quiet.stock_steps == quiet.steps > 0
    busy = run_twin(toy_config(), crowd, "scorpio")
    assert 0 < busy.stock_steps < busy.steps


def test_hopeless_promises_are_refused_with_429() -> None:
    # 5 ms is shorter than any step: the paper's TTFT guard must refuse, and say why.
    crowd = [*_crowd(10, 10.0, 1.0), *(promised(i, 0.02, 20, 5, 0.005, 1.0) for i in range(10, 15))]
    run = run_twin(toy_config(), crowd, "scorpio-paper")
    refused = [r for r in run.records if r.outcome is Outcome.REJECTED]
    assert {r.index for r in refused} == set(range(10, 15))
    assert {(r.http_status, r.reject_reason) for r in refused} == {(429, "ttft_infeasible")}
    assert all(r.ended_s is not None and r.ended_s - r.send_s < 0.1 for r in refused)
    assert run.timeline[-1]["rejected_total"] <= 5


def test_queue_cap_answers_503() -> None:
    spec = replace(SMALL, max_num_queued_tokens=50)
    run = run_twin(toy_config(spec), _crowd(20), "fcfs")
    refused = [r for r in run.records if r.outcome is Outcome.REJECTED]
    assert refused
    assert {(r.http_status, r.reject_reason) for r in refused} == {(503, "queue_full")}


def test_what_the_request_carries() -> None:
    crowd = [replace(r, tenant="acme") for r in _crowd(3)]
    (first, *_) = arrivals(crowd, toy_config(), 0)
    assert first.xargs["slo_tenant"] == "acme/"
    assert first.xargs["predicted_output_tokens"] == crowd[0].output_tokens
    plain = {k: v for k, v in first.xargs.items() if k != "slo_class"}
    slo, _ = SloBook({}, first.slo).resolve(plain)
    assert slo == first.slo
    assert slo_classes(crowd) == {crowd[0].slo_class: {"ttft_ms": 200.0, "tpot_ms": 20.0}}


def test_a_value_reaches_the_policy_by_the_operators_classes_alone() -> None:
    dear = [replace(r, value=4.0) for r in _crowd(3)]
    (first, *_) = arrivals(dear, toy_config(), 0)
    assert not any("value" in name for name in first.xargs)
    assert slo_classes(dear)[dear[0].slo_class]["value"] == 4.0
    assert {r.value for r in run_twin(toy_config(), dear, "scorpio").records} == {4.0}


def test_max_tokens_hides_the_length_unless_told() -> None:
    hidden = arrivals(_crowd(), toy_config(max_tokens=64), 0)
    assert {a.max_tokens for a in hidden} == {64}
    cut = arrivals([promised(0, 0.0, 1000, 5), promised(1, 0.0, 1000, 100)], toy_config(), 0)
    assert [a.max_tokens for a in cut] == [24, 100]  # what max_model_len leaves; the impossible
    told = arrivals(_crowd(), toy_config(exact_max_tokens=True), 0)
    assert [a.max_tokens for a in told] == [a.output_tokens for a in told]


def test_length_hints_are_seeded_and_unbiased_in_the_log() -> None:
    crowd = [promised(i, 0.0, 20, 1000) for i in range(2000)]

    def hints(sigma: float, seed: int) -> list[object]:
        config = toy_config(lengths=LengthHint(sigma))
        return [a.xargs["predicted_output_tokens"] for a in arrivals(crowd, config, seed)]

    assert hints(0.6, 1) == hints(0.6, 1)
    assert hints(0.6, 1) != hints(0.6, 2)
    ordered = sorted(float(str(h)) for h in hints(0.6, 1))
    assert ordered[1000] == pytest.approx(1000, rel=0.05)
    assert ordered[1683] == pytest.approx(1000 * 2.718281828**0.6, rel=0.1)  # one sigma
    none = arrivals(crowd, toy_config(lengths=LengthHint(None)), 1)
    assert not any("predicted_output_tokens" in a.xargs for a in none)


@pytest.mark.parametrize(("text", "sigma"), [("none", None), ("oracle", 0.0), ("0.6", 0.6)])
def test_length_hint_names(text: str, sigma: float | None) -> None:
    assert LengthHint.parse(text).sigma == sigma


@pytest.mark.parametrize("text", ["perfect", "-1", "nan", "9"])
def test_bad_length_hint_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LengthHint.parse(text)


def test_policies_get_a_fit_and_never_the_model() -> None:
    config = toy_config(noise=NOISY, profile_bias=1.1)
    believed = policy_profile(config, 0)
    assert believed.step != TOY.step
    truth_s = TOY.step.step_s(4, 100, 30) + TOY.gap_s
    assert believed.step.step_s(4, 100, 30) == pytest.approx(1.1 * truth_s, rel=0.05)
    assert policy_profile(replace(config, profile=believed), 3) != believed  # biased again
    assert isinstance(believed, LatencyProfile)


def test_a_policy_that_raises_voids_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, now_s: float, snapshot: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("scorpio.core.policies.paper.policy.ScorpioPaper.plan", broken)
    with pytest.raises(PolicyFailed, match="scorpio-paper failed in"):
        run_twin(toy_config(), _crowd(2), "scorpio-paper")


def test_unknown_policy_lists_the_names() -> None:
    valid = r"unknown policy 'lifo'; valid: edf, fairbatching, fcfs, .*scorpio-paper"
    with pytest.raises(ValueError, match=valid):
        run_twin(toy_config(), _crowd(2), "lifo")


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Two policies, two loads, two seeds on a trace of forty requests."""
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, [TraceRow(0.02 * i, 20 + i % 9, 3 + i % 8) for i in range(40)])
    config = toy_config(noise=NOISY, lengths=LengthHint(0.6))
    return [
        Job(config, LoadKey(str(trace), None, "six", scale, seed), policy)
        for policy in ("fcfs", "scorpio-paper")
        for scale in (1.0, 3.0)
        for seed in (0, 1)
    ]


def test_pool_gives_what_the_serial_order_gives(jobs: list[Job]) -> None:
    seen: list[int] = []
    pooled = run_jobs(jobs, 2, lambda number, run: seen.append(number))
    assert sorted(seen) == list(range(len(jobs)))
    assert [_facts(r) for r in pooled] == [_facts(r) for r in run_jobs(jobs, 1)]
    assert len({r.event_digest for r in pooled}) == len(jobs)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_run_is_named(jobs: list[Job], workers: int) -> None:
    bad = replace(jobs[0], policy="lifo")
    with pytest.raises(JobFailed, match=r"lifo on .*trace.jsonl rows all mix six x1 seed 0"):
        run_jobs([*jobs[:2], bad, *jobs[2:]], workers)


def test_blocks_of_the_trace_reach_the_engine() -> None:
    requests = [replace(r, hash_ids=(1, 2), block_tokens=16) for r in _crowd(2)]
    assert [a.prefix_block_tokens for a in arrivals(requests, toy_config(), 0)] == [16, 16]
