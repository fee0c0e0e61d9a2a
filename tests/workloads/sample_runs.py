"""Where do realistic records come from without an engine? A seeded toy server.

One queue, one batch: waiting grows with the backlog, the speed of decoding falls with the batch.
Policies differ in what they refuse. The numbers mean nothing; their shapes are those of real runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.workloads.test_records import record, rejected
from workloads.load import LoadKey
from workloads.results.aggregate import TimelineSample
from workloads.results.records import Outcome, RequestRecord
from workloads.results.run_summary import EngineStats, RunKey
from workloads.results.summary import Comparison

SIX = ((0.5, 30), (0.5, 50), (2, 30), (3, 50), (5, 50), (7.5, 50))  # TTFT s, TPOT ms
# name: (longest predicted wait it accepts as a share of the SLO, slowdown per running request)
POLICIES = {
    "fcfs": (math.inf, 1.0),
    "fcfs-tuned": (3.0, 0.85),
    "fcfs+queue-cap": (2.0, 1.0),
    "fcfs+adaptive-long-prefill": (math.inf, 0.92),
    "priority-edf": (math.inf, 0.95),
    "sjf": (4.0, 1.0),
    "mooncake": (1.5, 0.95),
    "qoserve": (1.2, 0.75),
    "scorpio-paper": (1.0, 1.25),
    "scorpio": (0.95, 0.68),
}


@dataclass(frozen=True)
class SampleRun:
    """One made-up run."""

    key: RunKey
    records: list[RequestRecord]
    timeline: list[TimelineSample]


def sample_run(policy: str, rate_scale: float, seed: int, requests: int = 400) -> SampleRun:
    """Records and samples of one run; the same arguments give the same run."""
    traffic = np.random.default_rng(seed)
    arrivals = np.cumsum(traffic.exponential(1 / (5.0 * rate_scale), requests))
    prompts = traffic.lognormal(6.3, 1.0, requests).astype(int) + 8
    outputs = traffic.lognormal(4.8, 0.8, requests).astype(int) + 1
    classes = traffic.integers(0, len(SIX), requests)
    noise = np.random.default_rng([seed, 99])
    limit, slowdown = POLICIES[policy]
    free_s, rejected = 0.0, 0
    records: list[RequestRecord] = []
    timeline: list[TimelineSample] = []
    ends: list[float] = []
    for index, arrival_s in enumerate(arrivals):
        ttft_slo_s, tpot_slo_ms = SIX[classes[index]]
        work_s = 0.06 + prompts[index] / 14_000 * slowdown + 0.0006 * outputs[index]
        wait_s = max(0.0, free_s - arrival_s)
        running = int(sum(end > arrival_s for end in ends[-200:]))
        refuse = wait_s + work_s > limit * ttft_slo_s
        base: dict[str, Any] = {
            "index": index,
            "slo_class": f"c{classes[index] + 1}",
            "send_s": float(arrival_s),
            "scheduled_send_s": float(arrival_s),
            "prompt_tokens": int(prompts[index]),
            "ttft_slo_s": ttft_slo_s,
            "tpot_slo_s": tpot_slo_ms / 1000,
        }
        if refuse:
            rejected += 1
            records.append(_refused(base))
        else:
            free_s = max(free_s, arrival_s) + work_s
            token_s = (0.016 + 0.0004 * running * slowdown) * noise.lognormal(0, 0.15)
            first_s = float(arrival_s + wait_s + work_s)
            last_s = first_s + token_s * (int(outputs[index]) - 1)
            ends.append(last_s)
            records.append(_finished(base, int(outputs[index]), first_s, last_s))
        timeline.append(
            TimelineSample(
                t_s=float(arrival_s),
                waiting=int(wait_s * 5.0 * rate_scale),
                running=running,
                kv_used_fraction=min(1.0, running / 90),
                rejected_total=rejected,
            )
        )
    load = LoadKey("azure-conv", None, "six", rate_scale, seed)
    key = RunKey(policy=policy, engine="twin", gpu="a100-llama-3.1-8b", load=load)
    return SampleRun(key, records, timeline)


def _refused(base: dict[str, Any]) -> RequestRecord:
    return RequestRecord(
        **base,
        output_tokens=0,
        outcome=Outcome.REJECTED,
        reject_reason="ttft_infeasible",
        http_status=429,
        ended_s=base["send_s"] + 0.004,
    )


def _finished(base: dict[str, Any], tokens: int, first_s: float, last_s: float) -> RequestRecord:
    return RequestRecord(
        **base,
        output_tokens=tokens,
        outcome=Outcome.FINISHED,
        http_status=200,
        first_token_s=first_s,
        last_token_s=last_s,
        ended_s=last_s,
    )


def fill(
    comparison: Comparison,
    policies: tuple[str, ...] = tuple(POLICIES),
    rates: tuple[float, ...] = (0.8, 1.2, 1.6, 2.4),
    seeds: tuple[int, ...] = (0, 1, 2),
    requests: int = 400,
    *,
    bound: bool = True,
    timelines: bool = True,
) -> None:
    """Add every combination to a comparison."""
    stats = EngineStats(steps=9000, schedule_us={"p50": 210.0, "p99": 900.0}, wall_s=3.0)
    for rate in rates:
        for seed in seeds:
            goods = []
            for policy in policies:
                run = sample_run(policy, rate, seed, requests)
                timeline = run.timeline if timelines else []
                goods.append(comparison.add_run(run.key, run.records, stats, timeline).good)
            if bound:
                ceiling = min(requests, int(max(goods) * 1.06) + 4)
                comparison.add_bound(LoadKey("azure-conv", None, "six", rate, seed), ceiling)


def known_runs(tmp_path: Path) -> Comparison:
    """fcfs: 2 of 4 good. scorpio: 3 of 4 good (it loses request 0 and wins 2 and 3)."""
    comparison, load = Comparison(tmp_path), LoadKey("t", None, "m", 1.0, 0)
    for policy, good in (("fcfs", {0, 1}), ("scorpio", {1, 2, 3})):
        records = [
            replace(
                record() if i in good else rejected(),
                index=i,
                scheduled_send_s=10.0 + 2 * i,
                send_s=10.0 + 2 * i,
                first_token_s=10.4 + 2 * i if i in good else None,
                last_token_s=10.9 + 2 * i if i in good else None,
                ended_s=11.0 + 2 * i,
            )
            for i in range(4)
        ]
        key = RunKey(policy=policy, engine="twin", gpu="g", load=load)
        comparison.add_run(key, records)
    comparison.add_bound(load, 4)
    return comparison
