"""A server of yesterday, for tests: the scheduler that serves, in virtual time, with a run_dir."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scorpio.core.latency import LatencyProfile
from scorpio.engine.virtual.build import build_scheduler
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.studies.study import engine
from scorpio.twin.config import TwinConfig
from scorpio.twin.engine.clock import VirtualClock
from scorpio.twin.engine.event_log import EventLog
from scorpio.twin.engine.loop import TwinLoop
from scorpio.twin.engine.timeline import Timeline
from scorpio.twin.gpu.noise import StepNoise
from scorpio.twin.run import policy_profile
from scorpio.twin.translate import arrivals, slo_classes
from workloads.load import LoadKey

GPU = "a100-llama-3.1-8b"
LOAD = LoadKey("azure-conv-synth", "0:300", "six", 2.4, 1)


def config(**engine_fields: Any) -> TwinConfig:
    """The engine that serves."""
    found = engine(GPU)
    return replace(found, engine=replace(found.engine, **engine_fields))


def serve(
    settings: Mapping[str, Any], load: LoadKey = LOAD, on: TwinConfig | None = None
) -> tuple[VirtualScorpioScheduler, TwinLoop]:
    """Serve a load with these settings beside the profile and the classes."""
    on = config() if on is None else on
    requests, profile = load.requests(), policy_profile(on, load.seed)
    told: dict[str, Any] = {"latency": profile.to_dict(), "classes": slo_classes(requests)}
    scheduler = build_scheduler(on.engine, VirtualScorpioScheduler, told | dict(settings))
    clock = scheduler.clock = VirtualClock()
    loop = TwinLoop(scheduler, on.engine, on.gpu, StepNoise(on.noise, load.seed), clock,
                    EventLog(), Timeline(1.0), None, None)  # fmt: skip
    loop.run(arrivals(requests, on, load.seed))
    scheduler.shutdown()
    return scheduler, loop


def served(
    run_dir: Path,
    load: LoadKey = LOAD,
    profile: LatencyProfile | None = None,
    **settings: Any,
) -> Path:
    """The run_dir of a server under `fcfs` that `scorpio` watched."""
    told = {"policy": "fcfs", "shadow": "scorpio", "shadow_most_share": 1.0} | settings
    given = {} if profile is None else {"latency": profile.to_dict()}
    serve(told | given | {"run_dir": str(run_dir)}, load)
    return run_dir
