"""Does a directory say what was run, go on where it was stopped, and take nothing else?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.studies.compare import run_compare
from scorpio.studies.compare_spec import CompareSpec
from scorpio.studies.manifest import check_directory, manifest_of, write_manifest
from scorpio.twin.clients import ClientSpec
from scorpio.twin.gpu.noise import NO_NOISE
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.pool import Job, JobFailed
from scorpio.twin.run import TwinRun
from workloads.errors import WorkloadError
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace


@pytest.fixture
def spec(tmp_path: Path) -> CompareSpec:
    """Thirty short requests, two seeds, two policies, in this process."""
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, [TraceRow(0.05 * i, 300 + 40 * (i % 9), 3 + i % 8) for i in range(30)])
    return CompareSpec(
        gpu="a100-llama-3.1-8b",
        trace=str(trace),
        mix="six",
        rate_scales=(1.0,),
        policies=("fcfs", "scorpio-paper"),
        seeds=(0, 1),
        out_dir=tmp_path / "out",
        engine=EngineSpec(max_num_seqs=16, num_blocks=500),
        workers=1,
    )


def _summary(spec: CompareSpec) -> Any:
    content = json.loads((spec.out_dir / "summary.json").read_text())
    for run in content["runs"]:
        del run["wall_s"], run["schedule_us"]
    return content


class _Stopped(Exception):
    """Ctrl-C after some runs."""


def test_a_stopped_comparison_goes_on_and_ends_the_same(
    spec: CompareSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(spec, out_dir=spec.out_dir / "whole", bound=True)
    run_compare(whole)
    half = replace(whole, out_dir=spec.out_dir / "half")

    def stop(done: int, total: int, what: str) -> None:
        if done == 3:
            raise _Stopped

    with pytest.raises(_Stopped):
        run_compare(half, stop)
    assert _summary(half)["complete"] is False
    assert len(_summary(half)["runs"]) == 3
    made: list[str] = []
    run = Job.run

    def counted(self: Job) -> TwinRun:
        made.append(self.label)
        return run(self)

    monkeypatch.setattr(Job, "run", counted)
    run_compare(half)
    assert len(made) == 1
    assert _summary(half) == _summary(whole)
    run_compare(half)
    assert len(made) == 1
    assert _summary(half) == _summary(whole)


def test_a_run_that_dies_is_told_and_the_others_go_on(
    spec: CompareSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Job.run

    def dies(self: Job) -> TwinRun:
        if self.policy == "fcfs" and self.load.seed == 1:
            raise ValueError("out of\npaper")
        return run(self)

    monkeypatch.setattr(Job, "run", dies)
    comparison = run_compare(spec)
    (failed,) = _summary(spec)["failed"]
    assert (failed["policy"], failed["seed"]) == ("fcfs", 1)
    assert failed["error"].endswith("ValueError: out of paper")
    assert len(comparison.runs) == 3
    assert "out of paper" in (spec.out_dir / "report.html").read_text()
    monkeypatch.setattr(Job, "run", run)
    assert len(run_compare(spec).runs) == 4
    assert _summary(spec)["failed"] == []
    assert "out of paper" not in (spec.out_dir / "report.html").read_text()


def test_when_all_die_the_command_fails(spec: CompareSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(self: Job) -> TwinRun:
        raise ValueError("no")

    monkeypatch.setattr(Job, "run", dies)
    with pytest.raises(JobFailed):
        run_compare(spec)
    assert len(_summary(spec)["failed"]) == 4


def test_the_manifest_is_the_same_for_the_same_and_says_it_all(spec: CompareSpec) -> None:
    found = manifest_of(spec)
    assert found == manifest_of(replace(spec, workers=7, out_dir=Path("elsewhere")))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    asked = found["asked"]
    assert asked["engine"]["max_num_seqs"] == 16
    assert asked["noise"]["sigma"] == 0.03
    assert asked["policies"]["scorpio-paper"]
    assert [load["requests"] for load in asked["loads"]] == [30, 30]
    assert len({load["digest"] for load in asked["loads"]}) == 2
    assert found["commit"] is None or len(found["commit"]) >= 40


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"noise": NO_NOISE}, "noise"),
        ({"lengths": LengthHint(0.0)}, "lengths"),
        ({"policies": ("fcfs",)}, "policies"),
        ({"policy_options": {"scorpio-paper": {"kappa": 2.0}}}, "policies"),
        ({"seeds": (0,)}, "loads"),
        ({"mix": "product"}, "loads, mix"),
        ({"gpu": "h100-llama-3.1-8b"}, "gpu"),
        ({"engine": EngineSpec(max_num_seqs=8, num_blocks=500)}, "engine"),
        ({"clients": ClientSpec(2)}, "clients"),
        ({"profile_bias": 1.1}, "profile_bias"),
        ({"bound": True}, "bound"),
    ],
)
def test_a_directory_of_another_comparison_is_refused(
    spec: CompareSpec, change: dict[str, Any], named: str
) -> None:
    write_manifest(spec.out_dir, manifest_of(spec))
    with pytest.raises(WorkloadError, match=f"which differs in {named}; name another"):
        check_directory(spec.out_dir, manifest_of(replace(spec, **change)))


def test_other_code_does_not_add_to_it(spec: CompareSpec) -> None:
    found = manifest_of(spec)
    write_manifest(spec.out_dir, found)
    with pytest.raises(WorkloadError, match="differs in the code of Scorpio;"):
        check_directory(spec.out_dir, {**found, "code": {"digest": "0"}})


def test_a_changed_trace_is_another_load(spec: CompareSpec) -> None:
    write_manifest(spec.out_dir, manifest_of(spec))
    write_trace(Path(spec.trace), [TraceRow(0.05 * i, 300, 4) for i in range(31)])
    other = replace(spec, rows="0:31")
    with pytest.raises(WorkloadError, match="differs in loads, rows"):
        check_directory(spec.out_dir, manifest_of(other))


@pytest.mark.parametrize("content", ["{", "[]", '{"asked": {}}'])
def test_a_damaged_manifest_is_one_line(spec: CompareSpec, content: str) -> None:
    spec.out_dir.mkdir()
    (spec.out_dir / "manifest.json").write_text(content)
    with pytest.raises(WorkloadError, match="not a readable manifest"):
        check_directory(spec.out_dir, manifest_of(spec))


def test_results_without_a_manifest_are_not_added_to(spec: CompareSpec) -> None:
    (spec.out_dir / "records").mkdir(parents=True)
    with pytest.raises(WorkloadError, match="has a records but no manifest"):
        run_compare(spec)
    assert not (spec.out_dir / "manifest.json").exists()
