"""Is the plug-in the scheduler that vLLM itself would have taken? Async scheduling off and on,
pipeline parallelism, data-parallel ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.core.plan import StepPlan
from scorpio.engine.virtual.build import EngineSpec, build_scheduler, build_vllm_config
from tests.engine.driver import Engine, Scripted, VirtualScheduler


@pytest.mark.parametrize(("depth", "in_flight"), [(1, 0), (2, 1)])
def test_tokens_in_flight_are_kept_only_with_async_scheduling(depth: Any, in_flight: int) -> None:
    """Stock `Scheduler` counts none: a draft model's tokens would be taken for placeholders."""
    engine = Engine(EngineSpec(pipeline_depth=depth))
    engine.add("a", output=6)
    request = engine.scheduler.requests["a"]
    engine.scheduler.schedule()
    assert request.num_output_placeholders == in_flight


def test_a_decode_that_vllm_makes_wait_longer_waits_longer() -> None:
    """Pipeline parallelism: the ring sets when a request's next decode is due."""
    engine = Engine()
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=10)
    engine.add("b", output=10)
    engine.step()
    running = engine.scheduler.running
    running[0].next_decode_eligible_step = engine.scheduler.current_step + 4
    policy.answer = StepPlan(skip_decode=(0,))
    engine.step()
    assert running[0].next_decode_eligible_step == engine.scheduler.current_step + 3


def test_each_rank_of_a_dense_model_writes_its_own_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM leaves a rank's configuration: one engine, and an index."""
    settings = {"policy": "fcfs", "run_dir": str(tmp_path)}
    for index in (0, 1):
        parallel = build_vllm_config(EngineSpec()).parallel_config
        parallel.reconfigure_for_independent_dp_rank()
        monkeypatch.setattr(parallel, "data_parallel_index", index)
        scheduler = build_scheduler(EngineSpec(), VirtualScheduler, settings)
        scheduler._publish(force=True)
        scheduler.shutdown()
    states = sorted(p.name for p in tmp_path.glob("*.json"))
    assert states == ["status-1.json", "status.json"]
    assert channel.read_status(tmp_path, 1) is not None
    channel.write_control(tmp_path, "fcfs")
    channel.forget(tmp_path)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".lock", ".salt"]  # no ledger of either
