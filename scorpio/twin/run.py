"""What does this policy make of this load on this GPU? One run, from requests to records."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scorpio.core.latency import LatencyProfile
from scorpio.engine.virtual.build import build_scheduler
from scorpio.engine.virtual.requests import AsyncScheduler, Scheduler
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.ledger.decision import Decision
from scorpio.twin.config import TwinConfig
from scorpio.twin.decisions import decisions
from scorpio.twin.engine.client_pool import ClientPool
from scorpio.twin.engine.clock import VirtualClock
from scorpio.twin.engine.decision_log import DecisionLog
from scorpio.twin.engine.event_log import EventLog
from scorpio.twin.engine.invariants import Checker
from scorpio.twin.engine.loop import TwinLoop
from scorpio.twin.engine.timeline import Timeline
from scorpio.twin.gpu.noise import StepNoise
from scorpio.twin.gpu.profile_samples import biased, profile_gpu
from scorpio.twin.systems import Setting, System, make_system
from scorpio.twin.translate import arrivals, client_records, index_stride, slo_classes
from workloads.request import WorkloadRequest
from workloads.results.aggregate import TimelineSample
from workloads.results.records import RequestRecord
from workloads.results.run_summary import EngineStats


class PolicyFailed(RuntimeError):
    """The policy raised in some steps and stock took over: the run measured something else."""


@dataclass(frozen=True, slots=True)
class TwinRun:
    """The outcome of one run.

    event_digest is equal for equal runs. virtual_s is how long the modelled engine was busy;
    wall_s, cpu_s, scheduler_s, plan_s and schedule_us are this machine's own time (scheduler_s:
    inside vLLM's and the policy's code; plan_s: the policy's part) and differ from run to run.
    stock_steps: those that the policy left to stock `schedule()`; all of them without a policy.
    """

    policy: str
    seed: int
    records: list[RequestRecord]
    steps: int
    preemptions: int
    event_digest: str
    timeline: list[TimelineSample]
    virtual_s: float
    wall_s: float
    cpu_s: float
    scheduler_s: float
    schedule_us: dict[str, float]
    plan_s: float = 0.0
    cached_tokens: int = 0
    stock_steps: int = 0
    log: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()

    @property
    def stats(self) -> EngineStats:
        """As summary.json wants it."""
        return EngineStats(
            steps=self.steps,
            schedule_us=self.schedule_us,
            wall_s=self.wall_s,
            preemptions=self.preemptions,
        )


def policy_profile(config: TwinConfig, seed: int) -> LatencyProfile:
    """What policies believe about the GPU's speed."""
    given = config.profile
    if given is None:
        given = profile_gpu(config.gpu, config.noise, seed, config.engine.kv_tokens)
    return biased(given, config.profile_bias)


def run_twin(
    config: TwinConfig, workload: Sequence[WorkloadRequest], policy: str, seed: int = 0
) -> TwinRun:
    """Serve `workload` with `policy` in virtual time.

    Raises:
        ValueError: unknown policy, or options it does not take.
        InvariantViolation: the scheduler or the policy broke a promise.
        TwinStuckError: the policy stopped serving.
        PolicyFailed: the policy raised; in production those steps would have been stock.
    """
    loop = twin_loop(config, workload, policy, seed, policy_profile(config, seed))
    scheduler, clock = loop.scheduler, loop.clock
    load = arrivals(workload, config, seed)
    gc.collect()
    gc.freeze()  # vLLM's EngineCore does the same: 20,000 block objects are not garbage
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    try:
        loop.run(load)
    finally:
        gc.unfreeze()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    check_policy(loop, policy)
    ours = scheduler if isinstance(scheduler, VirtualScorpioScheduler) else None
    forecasts = ours.forecasts if ours else {}
    noted, stride = loop.decisions, index_stride(workload)
    return TwinRun(
        policy=policy,
        seed=seed,
        records=client_records(loop.ledger.entries.values(), forecasts, workload, config.clients),
        steps=loop.steps,
        preemptions=loop.preemptions,
        event_digest=loop.log.digest(),
        timeline=loop.timeline.samples,
        virtual_s=clock.now_s,
        wall_s=wall_s,
        cpu_s=cpu_s,
        scheduler_s=sum(loop.schedule_s) + loop.update_s,
        schedule_us=_percentiles_us(loop.schedule_s),
        plan_s=ours.plan_s if ours else 0.0,
        cached_tokens=sum(e.cached_tokens for e in loop.ledger.entries.values()),
        stock_steps=ours.telemetry.stock_steps if ours else loop.steps,
        log=tuple(loop.log.lines or ()),
        decisions=decisions(noted, loop.ledger.entries, forecasts, policy, stride) if noted else (),
    )


def check_policy(loop: TwinLoop, policy: str) -> None:
    """Raises PolicyFailed."""
    scheduler = loop.scheduler
    if isinstance(scheduler, VirtualScorpioScheduler) and scheduler.policy_fallbacks:
        raise PolicyFailed(f"{policy} failed in {scheduler.policy_fallbacks} of {loop.steps} steps")


def twin_loop(
    config: TwinConfig,
    workload: Sequence[WorkloadRequest],
    policy: str,
    seed: int,
    profile: LatencyProfile,
) -> TwinLoop:
    """An engine with nothing to do yet. workload: its classes and promises are known beforehand.
    Raises ValueError."""
    options = config.policy_options.get(policy, {})
    entrant = make_system(policy, Setting(config.engine, profile, workload, options))
    clock = VirtualClock()
    return TwinLoop(
        _scheduler(entrant, profile, options, clock, workload),
        entrant.spec,
        config.gpu,
        StepNoise(config.noise, seed),
        clock,
        EventLog(config.keep_log),
        Timeline(config.timeline_period_s),
        Checker(config.max_wait_s) if config.check_invariants else None,
        ClientPool(config.clients, index_stride(workload)) if config.clients.follow else None,
        DecisionLog() if config.log_decisions else None,
        config.drafter.accepts(seed) if config.drafter else None,
    )


def _scheduler(
    entrant: System,
    profile: LatencyProfile,
    options: Any,
    clock: VirtualClock,
    workload: Sequence[WorkloadRequest],
) -> Scheduler:
    if entrant.policy is None:
        cls = AsyncScheduler if entrant.spec.pipeline_depth == 2 else Scheduler
        return build_scheduler(entrant.spec, cls)
    settings = {
        "policy": entrant.policy,
        "policy_options": dict(options),
        "latency": profile.to_dict(),
        "classes": slo_classes(workload),
    }
    scheduler = build_scheduler(entrant.spec, VirtualScorpioScheduler, settings)
    scheduler.clock = clock
    return scheduler


def _percentiles_us(schedule_s: Sequence[float]) -> dict[str, float]:
    if not schedule_s:
        return {"p50": 0.0, "p99": 0.0}
    p50, p99 = np.percentile(np.asarray(schedule_s) * 1e6, (50, 99))
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
