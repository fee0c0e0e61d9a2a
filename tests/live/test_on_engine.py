"""Do the A/B runner and the profiler work on the real engine behind a real server?"""

from __future__ import annotations

from pathlib import Path

import pytest

from predictors.latency.design import Point, design_points
from predictors.latency.samples import read_steps
from scorpio import channel
from scorpio.live.ab import Load, plan_runs, run_ab
from scorpio.live.control.admin import Admin
from scorpio.live.host.server import LiveServer
from scorpio.live.profile import record as profiling
from scorpio.live.profile.record import profile_server
from scorpio.versions import is_supported
from tests.engine_server import ENGINE_MARKS, EngineServer
from workloads.load import LoadKey
from workloads.request import WorkloadRequest
from workloads.results.summary import Comparison

pytestmark = ENGINE_MARKS
TINY_VOCABULARY = 256


def test_ab_on_one_server(engine_server: EngineServer, tmp_path: Path) -> None:
    requests = [
        WorkloadRequest(i, 0.05 * i, 20 + 10 * i, 3 + i, (i,), "easy", 600.0, 600.0)
        for i in range(8)
    ]
    load = Load(LoadKey("made-up", None, "cpu", 1.0, 0), requests)
    admin = Admin(engine_server.url, engine_server.admin_token)
    server = LiveServer(engine_server.url, engine_server.run_dir, admin, engine_server.process, 0.0)
    comparison, said = Comparison(tmp_path), list[str]()
    runs = plan_runs([load], ["fcfs", "scorpio-paper"], repeats=2)
    summaries = run_ab(server, runs, comparison, "this CPU", TINY_VOCABULARY, said.append)
    assert [s.policy for s in summaries] == ["fcfs", "scorpio-paper", "scorpio-paper", "fcfs"]
    for summary in summaries:
        assert summary.sent == summary.good == 8
        assert summary.failed == 0
        assert summary.steps is not None
        assert summary.steps >= max(r.output_tokens for r in requests)
    assert admin.status()["policy"] == "fcfs"
    records = [run.records for run in comparison.runs]
    for run in records:  # exact lengths were served
        assert [r.output_tokens for r in run] == [r.output_tokens for r in requests]
        assert [r.prompt_tokens for r in run] == [r.prompt_tokens for r in requests]


async def test_profile_of_the_engine(
    engine_server: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the points that a fit needs most, however long they take here."""

    def most_needed(max_model_len: int) -> list[Point]:
        return design_points(max_model_len)[:4]

    monkeypatch.setattr(profiling, "design_points", most_needed)
    before = engine_server.status()["policy"]
    measured = await profile_server(
        engine_server.url, engine_server.run_dir, "tiny", budget_s=600.0, exam_s=1.0
    )
    assert measured.fit["design"]["left_out"] == ()  # type: ignore[index]
    assert is_supported(measured.vllm)
    assert measured.profile.step.base_s > 0.0
    assert measured.engine["max_model_len"] == 512
    assert "num_gpu_blocks" in measured.engine
    steps = read_steps(engine_server.run_dir / channel.STEPS)
    assert any(s.prefill_tokens and s.num_decodes for s in steps), "no mixed step was seen"
    assert max(s.num_decodes for s in steps) == 8  # --max-num-seqs of the test server
    control = channel.read_control(engine_server.run_dir)
    assert control is not None
    assert (control.policy, control.record_steps) == (before, False)
