"""`scorpio plan` on a tiny trace: all of it is served, by as few replicas as reach the target."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.engine.virtual.build import EngineSpec
from scorpio.studies.compare_spec import CompareSpec
from scorpio.studies.fleet_size import FleetSearch, ReplicaJob, search_fleets
from scorpio.twin.gpu.noise import NO_NOISE
from scorpio.twin.run import run_twin
from workloads.errors import WorkloadError
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
    return FleetSearch(load, target=0.9, max_replicas=8)


def test_smallest_fleet_is_found_and_written(spec: FleetSearch) -> None:
    seen: list[tuple[int, int, str]] = []
    plans = {p.policy: p for p in search_fleets(spec, lambda *told: seen.append(told))}
    for plan in plans.values():
        assert plan.needed is not None
        fleets = {point.replicas: point.attainment.mean for point in plan.points}
        assert plan.needed.replicas > 1
        assert fleets[plan.needed.replicas - 1] < 0.9 <= fleets[plan.needed.replicas]
        assert plan.points[0].rps_per_replica == pytest.approx(30 / (29 * 0.1))
        assert all(point.attainment.values == 30 for point in plan.points)
    written = json.loads((spec.load.out_dir / "plan.json").read_text())
    assert written["routing"] == "round robin in order of arrival"
    for entry in written["plans"]:
        needed = plans[entry["policy"]].needed
        assert needed is not None
        assert entry["replicas"] == needed.replicas
    assert (spec.load.out_dir / "plan.png").exists()
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]


def test_a_fleet_of_one_is_a_plain_run_and_two_share_the_load(spec: FleetSearch) -> None:
    config, workload = spec.load.config(), spec.load.workloads()[0]
    alone = ReplicaJob(config, workload, "fcfs", 0, 1).run()
    assert alone == run_twin(config, workload.requests(), "fcfs", workload.seed).records
    parts = [ReplicaJob(config, workload, "fcfs", replica, 2).run() for replica in (0, 1)]
    assert [[record.index for record in part] for part in parts] == [
        list(range(0, 30, 2)),
        list(range(1, 30, 2)),
    ]
    sent = {record.index: record.send_s for part in parts for record in part}
    assert sent == {record.index: record.send_s for record in alone}
    assert ReplicaJob(config, workload, "fcfs", 30, 31).run() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 0.0}, "target must be in (0, 1], got 0"),
        ({"target": float("nan")}, "target must be in (0, 1], got nan"),
        ({"max_replicas": 0}, "max_replicas must be >= 1, got 0"),
    ],
)
def test_nonsense_is_refused(spec: FleetSearch, change: dict[str, float], message: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        search_fleets(replace(spec, **change))  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert not spec.load.out_dir.exists()
    with pytest.raises(WorkloadError, match="one rate scale"):
        search_fleets(replace(spec, load=replace(spec.load, rate_scales=(1.0, 2.0))))


def test_command_prints_the_answer(tmp_path: Path) -> None:
    trace, out = tmp_path / "trace.jsonl", tmp_path / "out"
    write_trace(trace, [TraceRow(0.5 * i, 200, 4) for i in range(12)])
    wanted = ["--trace", str(trace), "--mix", "six", "--gpu", GPU]
    wanted += ["--policy", "fcfs", "--workers", "1"]
    result = CliRunner().invoke(app, ["plan", *wanted, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    row = next(line.split() for line in result.stdout.splitlines() if line.startswith("fcfs"))
    assert row[:3] == ["fcfs", "1", "100.0"]
    assert "routing assumed: round robin" in result.stdout
