"""A twin with everything in the test's hands: any scheduler class, any arrivals, checks on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scorpio.core.latency import StepModel
from scorpio.core.slo import Slo
from scorpio.engine.virtual.build import EngineSpec, build_scheduler
from scorpio.engine.virtual.requests import AsyncScheduler, Scheduler
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.twin.config import TwinConfig
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.clock import VirtualClock
from scorpio.twin.engine.event_log import EventLog
from scorpio.twin.engine.invariants import Checker
from scorpio.twin.engine.loop import TwinLoop
from scorpio.twin.engine.timeline import Timeline
from scorpio.twin.gpu.noise import NO_NOISE, NoiseSpec, StepNoise
from scorpio.twin.gpu.step_models import GpuModel
from scorpio.twin.length_hint import LengthHint
from workloads.request import WorkloadRequest

# 10 ms a step, 1 ms per 10 tokens above 10, and a gap of 1 ms: easy to add up by hand.
TOY = GpuModel("toy", StepModel(0.010, 0.0, 0.0001, 10.0, 0.0, 0.0, 0.0), "by hand", gap_s=0.001)
SMALL = EngineSpec(max_num_seqs=8, max_num_batched_tokens=64, num_blocks=200, max_model_len=1024)


def arrival(
    index: int, at_s: float = 0.0, prompt: int = 20, output: int = 5, **more: Any
) -> Arrival:
    """A request that hides its length behind max_tokens = 64."""
    return Arrival(index, at_s, prompt, output, more.pop("max_tokens", max(64, output)), **more)


def toy_step_s(tokens: int) -> float:
    """Duration of a step of `tokens` tokens on TOY, gap included."""
    return 0.010 + 0.0001 * max(tokens - 10, 0) + 0.001


def make_loop(
    spec: EngineSpec = SMALL,
    scheduler_cls: type[Scheduler] = AsyncScheduler,
    *,
    noise: NoiseSpec = NO_NOISE,
    seed: int = 0,
    gpu: GpuModel = TOY,
    settings: dict[str, Any] | None = None,
    max_wait_s: float = math.inf,
) -> TwinLoop:
    """A loop that checks every step and keeps its log."""
    clock = VirtualClock()
    scheduler = build_scheduler(spec, scheduler_cls, settings)
    if isinstance(scheduler, VirtualScorpioScheduler):
        scheduler.clock = clock
    return TwinLoop(
        scheduler,
        spec,
        gpu,
        StepNoise(noise, seed),
        clock,
        EventLog(keep=True),
        Timeline(),
        Checker(max_wait_s),
    )


def drive(arrivals: Sequence[Arrival], spec: EngineSpec = SMALL, **more: Any) -> TwinLoop:
    """Serve them all; the finished loop."""
    loop = make_loop(spec, **more)
    loop.run(arrivals)
    return loop


def promised(
    index: int, send_s: float, prompt: int = 20, output: int = 5, ttft_s: float = math.inf,
    tpot_s: float = math.inf, hash_ids: tuple[int, ...] = (),
) -> WorkloadRequest:  # fmt: skip
    """A workload request; its class is named after its promise."""
    name = f"t{ttft_s:g}-p{tpot_s:g}"
    return WorkloadRequest(index, send_s, prompt, output, hash_ids, name, ttft_s, tpot_s)


def toy_config(spec: EngineSpec = SMALL, **more: Any) -> TwinConfig:
    """TOY with exact lengths told, checks on, and no noise unless asked for."""
    defaults: dict[str, Any] = {
        "noise": NO_NOISE, "lengths": LengthHint(0.0), "max_tokens": 64,
        "check_invariants": True, "keep_log": True,
    }  # fmt: skip
    return TwinConfig(TOY, spec, **{**defaults, **more})


def slo(ttft_s: float = math.inf, tpot_s: float = math.inf) -> Slo:
    return Slo(ttft_s, tpot_s)
