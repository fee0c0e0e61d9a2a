"""What could some policy do? A random schedule of a mid-sized instance, with every step recorded.

Far too many requests to try out all schedules, but any schedule must satisfy every row of the
bound's programme; this one chunks, preempts, recomputes, skips and idles without any sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scorpio.core.latency import StepModel
from workloads.bound.demand import BoundEngine
from workloads.request import WorkloadRequest
from workloads.results.records import TIME_TOLERANCE_S


@dataclass(slots=True)
class Served:
    """What happened to one request; times of its tokens."""

    kv: int = 0
    recompute: bool = True
    times_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Schedule:
    """steps: (start, end) of each."""

    steps: list[tuple[float, float]]
    served: list[Served]

    def good(self, requests: Sequence[WorkloadRequest]) -> list[int]:
        """Indices of the good requests."""
        found = []
        for i, (r, s) in enumerate(zip(requests, self.served, strict=True)):
            if len(s.times_s) < r.output_tokens:
                continue
            first_s, last_s, decodes = s.times_s[0], s.times_s[-1], r.output_tokens - 1
            in_time = first_s - r.send_s <= r.ttft_slo_s + TIME_TOLERANCE_S
            on_target = last_s - first_s <= decodes * (r.tpot_slo_s + TIME_TOLERANCE_S)
            if in_time and on_target and last_s - r.send_s <= r.e2e_slo_s + TIME_TOLERANCE_S:
                found.append(i)
        return found


def random_schedule(
    requests: Sequence[WorkloadRequest],
    step: StepModel,
    gap_s: float,
    limits: BoundEngine,
    rng: np.random.Generator,
) -> Schedule:
    """Serve until all is done; requests get a random priority and each step random chunks."""
    served = [Served() for _ in requests]
    steps: list[tuple[float, float]] = []
    priority = rng.random(len(requests))
    eager, chunk = float(rng.uniform(0.6, 1.0)), int(rng.integers(8, limits.max_num_batched_tokens))
    now_s = 0.0
    while any(len(s.times_s) < r.output_tokens for r, s in zip(requests, served, strict=True)):
        live = [
            i
            for i, (r, s) in enumerate(zip(requests, served, strict=True))
            if r.send_s <= now_s and len(s.times_s) < r.output_tokens
        ]
        if not live:
            now_s = min(r.send_s for r in requests if r.send_s > now_s)
            continue
        live.sort(key=lambda i: (not served[i].times_s, priority[i]))
        budget, slots, kv = limits.max_num_batched_tokens, limits.max_num_seqs, limits.kv_tokens
        decodes, context, tokens, squares, products = 0, 0, 0, 0, 0
        emitting: list[int] = []
        for i in live:
            r, s = requests[i], served[i]
            known = r.prompt_tokens + len(s.times_s)
            if not s.recompute and rng.random() < 0.002:
                block = limits.kv_block_tokens
                s.kv = s.kv // block * block if limits.prefix_caching else 0
                s.recompute = True
            n = min(known - s.kv, budget, chunk) if s.recompute else 1
            if not slots or n < 1 or n > budget or s.kv + n > kv or rng.random() > eager:
                continue
            budget, slots, kv = budget - n, slots - 1, kv - s.kv - n
            if s.recompute:
                tokens, squares, products = tokens + n, squares + n * n, products + n * s.kv
            else:
                decodes, context = decodes + 1, context + known - 1
            s.kv += n
            if s.kv == known:
                s.recompute = False
                emitting.append(i)
        if slots == limits.max_num_seqs:
            continue
        end_s = now_s + gap_s + step.step_s(decodes, context, tokens, squares, products)
        steps.append((now_s, end_s))
        for i in emitting:
            served[i].times_s.append(end_s)
        now_s = end_s + (float(rng.exponential(0.02)) if rng.random() < 0.02 else 0.0)
    return Schedule(steps, served)
