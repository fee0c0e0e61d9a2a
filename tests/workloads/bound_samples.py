"""Which requests do the tests of the bound serve? Builders with plain defaults."""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.latency import StepModel
from workloads.request import WorkloadRequest

A100 = StepModel(11.593e-3, 2.967e-5, 5.310e-5, 96, 1.777e-9, 2.820e-9, 8.373e-8)
GAP_S = 1.5e-3


def request(
    index: int = 0,
    send_s: float = 0.0,
    prompt: int = 2,
    output: int = 3,
    ttft_s: float = math.inf,
    tpot_s: float = math.inf,
    e2e_s: float = math.inf,
    hash_ids: tuple[int, ...] = (),
) -> WorkloadRequest:
    return WorkloadRequest(
        index, send_s, prompt, output, hash_ids, "", ttft_s, tpot_s, "", e2e_slo_s=e2e_s
    )


def load(n: int, rps: float, seed: int = 0) -> list[WorkloadRequest]:
    """Chat-like lengths, Poisson arrivals, two TTFT and two TPOT promises."""
    rng = np.random.default_rng(seed)
    sends = np.cumsum(rng.exponential(1.0 / rps, n))
    return [
        request(
            i,
            float(sends[i] - sends[0]),
            int(rng.integers(50, 2000)),
            int(rng.integers(1, 120)),
            float(rng.choice([0.5, 3.0])),
            float(rng.choice([0.03, 0.05])),
        )
        for i in range(n)
    ]
