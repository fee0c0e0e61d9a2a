"""`scorpio plan` on a tiny trace: all of it is served, by as few replicas as reach the target."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.engine.virtual.build import EngineSpec
from scorpio.studies.compare_spec import CompareSpec
from scorpio.studies.fleet_plan import assumption_lines, assumptions, write_plan
from scorpio.studies.fleet_size import (
    MOST_ALONE,
    AloneJob,
    FleetSearch,
    ReplicaJob,
    Traffic,
    search_fleets,
)
from scorpio.twin.clients import ClientSpec
from scorpio.twin.gpu.noise import NO_NOISE
from scorpio.twin.run import run_twin
from workloads.errors import WorkloadError
from workloads.request import WorkloadRequest
from workloads.slo_changes import parse_changes
from workloads.targets import ALL, Targets
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace

GPU = "a100-llama-3.1-8b"


@pytest.fixture
def spec(tmp_path: Path) -> FleetSearch:
    """Thirty prompts of 4000 tokens, 10 a second: more than one GPU can prefill."""
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, [TraceRow(0.1 * i, 4000, 2 + i % 2) for i in range(30)])
    load = CompareSpec(
        gpu=GPU,
        trace=str(trace),
        mix="six",
        rate_scales=(1.0,),
        policies=("fcfs",),
        seeds=(0,),
        out_dir=tmp_path / "out",
        engine=EngineSpec(max_num_seqs=16, num_blocks=2000),
        noise=NO_NOISE,
        workers=1,
    )
    return FleetSearch(load, Targets({ALL: 0.8}), max_replicas=16, draws=3)


def test_smallest_fleet_is_found_and_written(spec: FleetSearch) -> None:
    seen: list[tuple[int, int, str]] = []
    (plan,) = search_fleets(spec, lambda *told: seen.append(told))
    assert not spec.load.out_dir.exists()
    assert plan.needed is not None
    needed = plan.needed.replicas
    assert needed > 1
    fewer = plan.at(needed - 1)
    assert fewer is not None
    assert fewer.attainment.low < 0.8 <= plan.needed.attainment.low
    assert plan.points[0].rps_per_replica == pytest.approx(30 / (29 * 0.1))
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]
    for point in plan.points:
        runs = 1 if point.attainment.high < 0.8 else 3
        assert (point.attainment.runs, point.attainment.values) == (runs, 30 * runs)
        assert sum(found.values for name, found in point.groups.items() if name != ALL) == 30 * runs
        assert [(w.first, w.last) for w in point.windows] == [(1, 8), (9, 16), (17, 23), (24, 30)]
    write_plan(spec, [plan])
    written = json.loads((spec.load.out_dir / "plan.json").read_text())
    (entry,) = written["plans"]
    assert (entry["policy"], entry["replicas"]) == ("fcfs", needed)
    assert set(entry["curve"][0]["groups"]) == {ALL, *written["assumptions"]["classes"]}
    assert (spec.load.out_dir / "plan.png").exists()


def test_what_it_rests_on_is_told(spec: FleetSearch) -> None:
    found = assumptions(spec)
    assert found["routing"] == "round robin in order of arrival"
    assert found["engine"]["max_num_seqs"] == 16
    assert found["engine"]["kv_tokens"] == 1999 * 16
    assert found["traffic"]["requests"] == 30
    assert found["traffic"]["prompt_tokens"] == 4000.0
    assert found["classes"]["t0.5-p30"] == {
        "ttft_ms": 500.0, "tpot_ms": 30.0, "e2el_ms": None, "requests": 5
    }  # fmt: skip
    lines = "\n".join(assumption_lines(found))
    for told in (
        "routing: round robin",
        f"engine: {GPU}, KV for 31,984 tokens, max_num_seqs 16",
        "traffic: 30 requests",
        "the trace and 2 draws from it in blocks of 5",
        "mix six: t0.5-p30 (5) TTFT 500 ms, TPOT 30 ms; ",
        "the truth, with a log error of 0.6",
    ):
        assert told in lines
    json.dumps(found)


def test_a_fleet_of_one_is_a_plain_run_and_two_share_the_load(spec: FleetSearch) -> None:
    config, workload = spec.load.config(), spec.load.workloads()[0]
    traffic = Traffic(workload)
    alone = ReplicaJob(config, traffic, "fcfs", 0, 1).run()
    assert alone == run_twin(config, workload.requests(), "fcfs", workload.seed).records
    parts = [ReplicaJob(config, traffic, "fcfs", replica, 2).run() for replica in (0, 1)]
    assert [[record.index for record in part] for part in parts] == [
        list(range(0, 30, 2)),
        list(range(1, 30, 2)),
    ]
    sent = {record.index: record.send_s for part in parts for record in part}
    assert sent == {record.index: record.send_s for record in alone}
    assert ReplicaJob(config, traffic, "fcfs", 30, 31).run() == []


def test_a_closed_loop_deals_its_clients_to_the_replicas(spec: FleetSearch) -> None:
    """Three clients: no fourth replica is tried, and none has more at once than its clients."""
    load = replace(spec.load, clients=ClientSpec(clients=3))
    closed = replace(spec, load=load)
    assert closed.limit() == 3
    (traffic,) = closed.traffic()[:1]
    for replicas, most in ((1, 3), (2, 2), (3, 1)):
        records = ReplicaJob(load.config(), traffic, "fcfs", 0, replicas).run()
        assert len(records) == 30 // replicas
        spans = [(r.send_s, r.last_token_s) for r in records]
        at_once = [sum(a <= at < b for a, b in spans if b is not None) for at, _ in spans]
        assert max(at_once) == most
    (plan,) = search_fleets(closed)
    assert max(point.replicas for point in plan.points) <= 3
    asked = plan.points[0].rps_per_replica
    assert asked < 0.8 * 30 / (29 * 0.1)  # one replica is slow, and so is asked later
    assert any("closed loop of 3 clients" in line for line in assumption_lines(assumptions(closed)))


def test_each_draw_is_other_traffic_with_other_noise_under_the_changed_promises(
    spec: FleetSearch,
) -> None:
    changes = parse_changes("tpot.t0.5-p30=20")
    first, second, third = replace(spec, changes=changes).traffic()
    assert first.requests() != second.requests() != third.requests()
    assert len({first.seed, second.seed, third.seed}) == 3
    for traffic in (first, second, third):
        tight = {r.tpot_slo_s for r in traffic.requests() if r.slo_class == "t0.5-p30"}
        assert tight <= {0.02}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": Targets({ALL: 0.95})}, "target of all: 30 requests are too few for 95 %"),
        ({"targets": Targets({"x": 0.5})}, "unknown class 'x'; valid: all, t0.5-p30"),
        ({"draws": 0}, "draws must be >= 1, got 0"),
        ({"max_replicas": 0}, "max_replicas must be >= 1, got 0"),
    ],
)
def test_nonsense_is_refused(spec: FleetSearch, change: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        search_fleets(replace(spec, **change))
    assert message in str(caught.value)
    assert not spec.load.out_dir.exists()
    with pytest.raises(WorkloadError, match="one rate scale"):
        search_fleets(replace(spec, load=replace(spec.load, rate_scales=(1.0, 2.0))))


def plan(tmp_path: Path, *words: str) -> tuple[Any, dict[str, Any]]:
    """The command on a light load; what it said, and plan.json."""
    trace, out = tmp_path / "trace.jsonl", tmp_path / "out"
    write_trace(trace, [TraceRow(0.5 * i, 200, 4) for i in range(40)])
    wanted = ["--trace", str(trace), "--mix", "artefact-3", "--gpu", GPU]
    wanted += ["--policy", "fcfs", "--workers", "1", "--draws", "2", "--out", str(out)]
    result = CliRunner().invoke(app, ["plan", *wanted, *words], catch_exceptions=False)
    return result, json.loads((out / "plan.json").read_text())


def test_command_prints_the_answer(tmp_path: Path) -> None:
    wanted = ["--target", "90,t15-p50=70", "--what", "tpot.t0.5-p50=0.001"]
    result, written = plan(tmp_path, *wanted, "--max-replicas", "2")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    rows = [line.split() for line in lines]
    assert ["fcfs", "1", "100.0", "91.2-100.0", "2.05", "yes"] in rows
    assert ["t15-p50", "fcfs", "1", "70", "100.0"] in [row[:5] for row in rows]
    assert any("routing: round robin" in line for line in lines)
    assert any("KV for" in line and "max_num_seqs 256" in line for line in lines)
    (line,) = [line for line in lines if "as it is" in line]
    assert "1 replica as it is, no fleet found with tpot.t0.5-p50=0.001; 1 replica: 100.0" in line
    assert written["targets"] == {"all": 0.9, "t15-p50": 0.7}
    assert written["plans"][0]["replicas"] == 1
    assert written["what"]["plans"][0]["replicas"] is None


def test_nothing_found_is_code_3_and_written(tmp_path: Path) -> None:
    """Each alone would be in time, but not two on one engine at once."""
    mix = tmp_path / "slo.toml"
    mix.write_text('default_class = "x"\n[classes.x]\nttft_ms = 100\n')
    words = ["--mix", str(mix), "--max-replicas", "2", "--target", "80", "--rate-scale", "1000"]
    result, written = plan(tmp_path, *words)
    assert result.exit_code == 3
    assert "no fleet of up to 2 replicas surely keeps 80 % of all" in result.stderr
    assert written["plans"][0]["replicas"] is None
    assert written["plans"][0]["out_of_reach"] == []
    assert written["plans"][0]["alone"]["all"]["mean"] == 1.0
    assert "> 2, best" in result.stdout


def test_what_an_idle_replica_cannot_keep_is_told_without_a_search(tmp_path: Path) -> None:
    mix = tmp_path / "slo.toml"
    mix.write_text('default_class = "x"\n[classes.x]\nttft_ms = 0.01\n')
    result, written = plan(tmp_path, "--mix", str(mix), "--target", "80")
    assert result.exit_code == 3
    assert "no number of replicas keeps 80 % of all: not even with idle ones" in result.stderr
    assert "fcfs: no number of replicas is enough: of requests that have a replica to" in (
        result.stdout
    )
    assert "0.0 % of all are good (95 % interval 0.0-" in result.stdout
    (found,) = written["plans"]
    assert found["out_of_reach"] == ["all"]
    assert [point["replicas"] for point in found["curve"]] == [1]


def test_a_class_out_of_reach_ends_the_search_of_that_policy_alone(spec: FleetSearch) -> None:
    """Alone all are in time, but for a class that wants a token every 2 ms."""
    changes = parse_changes("tpot.t0.5-p30=2")
    targets = Targets({ALL: 0.5, "t0.5-p30": 0.5})
    (plan,) = search_fleets(replace(spec, targets=targets, changes=changes))
    assert plan.out_of_reach == ("t0.5-p30",)
    assert [point.replicas for point in plan.points] == [1]
    (kept,) = search_fleets(replace(spec, targets=targets))
    assert kept.out_of_reach == ()
    assert kept.needed is not None


def test_alone_means_alone(spec: FleetSearch) -> None:
    """No request sees another: its TTFT is that of a run of its own."""
    config, traffic = spec.load.config(), spec.traffic()[0]
    found = AloneJob(config, traffic, "fcfs").run()
    assert len(found) == 30
    assert {round(record.ttft_s or 0.0, 6) for record in found} == {round(found[0].ttft_s or 0, 6)}
    many = [replace(r, index=i) for i, r in enumerate(traffic.requests() * 40)]
    few = AloneJob(config, _Fixed(traffic.load, requests_=tuple(many)), "fcfs").run()
    assert len(few) == MOST_ALONE


@dataclass(frozen=True, slots=True)
class _Fixed(Traffic):
    """Traffic that a test made."""

    requests_: tuple[WorkloadRequest, ...] = ()

    def requests(self) -> list[WorkloadRequest]:
        return list(self.requests_)


def test_what_was_said_of_the_twin_is_assumed_and_told(tmp_path: Path) -> None:
    result, written = plan(
        tmp_path,
        *(
            "--engine-option",
            "max_num_seqs=8",
            "--policy-option",
            "fcfs-tuned.max_num_queued_tokens=9",
        ),
        *("--policy", "fcfs-tuned", "--noise", "none", "--profile-bias", "1.5", "--retries", "2"),
        *("--give-up-s", "20", "--target", "60"),
    )
    assert result.exit_code == 0, result.stderr
    assumed = written["assumptions"]
    assert assumed["engine"]["max_num_seqs"] == 8
    assert assumed["engine_options"] == {"max_num_seqs": 8}
    assert assumed["policy_options"] == {"fcfs-tuned": {"max_num_queued_tokens": 9.0}}
    assert (assumed["noise"]["sigma"], assumed["noise"]["shift_at_s"]) == (0.0, None)
    assert assumed["profile_bias"] == 1.5
    assert assumed["clients"] == {"retries": 2, "give_up_s": 20.0, "clients": 0}
    made = written["manifest"]
    assert made["asked"]["clients"] == assumed["clients"]
    assert {"asked", "code", "commit", "versions", "command"} <= made.keys()
    for told in (
        "vLLM's flags: max_num_seqs 8",
        "fcfs-tuned with max_num_queued_tokens 9",
        "policies take all for 1.5 times as slow as it is",
        "clients send a refused request again, 2 times at most, to the same",
        "clients leave 20 s after they first asked",
        "steps scatter by 0 %",
    ):
        assert told in result.stdout
