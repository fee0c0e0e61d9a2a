"""How much load can a policy carry? `python -m tests.bench.knee --policy scorpio,fcfs`.

The knee is the largest multiple of the trace's rate at which attainment, mean over the seeds, still
reaches a target: found by halving between loads, and by a straight line within the last bracket.
Attainment is taken to fall with load; on a short window it does so up to about half a point.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache

import numpy as np

from scorpio.twin.pool import Job, WorkloadKey, run_jobs
from tests.bench.policy_grid import Cell, attainment, config

LEAST, MOST = 0.4, 2.0


def knee(attained: Callable[[float], float], target: float, halvings: int) -> float:
    """The load at which `attained` falls through `target` (percent); LEAST when it never held."""
    low, high = LEAST, MOST
    if attained(low) < target:
        return low
    if attained(high) >= target:
        return high
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if attained(middle) >= target else (low, middle)
    above, below = attained(low), attained(high)
    return low + (high - low) * (above - target) / (above - below)


def main() -> None:
    """One line per policy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", default="a100-llama-3.1-8b")
    parser.add_argument("--trace", default="azure-conv")
    parser.add_argument("--rows", default="2000:2800")
    parser.add_argument("--mix", default="six")
    parser.add_argument("--policy", default="scorpio,qoserve,fcfs-tuned,fcfs")
    parser.add_argument("--target", default="99,90")
    parser.add_argument("--seed", default="0,1,2")
    parser.add_argument("--halvings", type=int, default=4)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seed.split(",")]
    targets = [float(target) for target in args.target.split(",")]
    engine = config(Cell(args.trace, args.mix, args.gpu, 1.0))
    unit = WorkloadKey(args.trace, args.rows, args.mix, 1.0, seeds[0]).load()
    rate_rps = (len(unit) - 1) / unit[-1].send_s
    print(
        "| policy | " + " | ".join(f"{target:g} %, load (requests/s)" for target in targets) + " |"
    )
    print("|" + "---|" * (len(targets) + 1))
    for policy in args.policy.split(","):

        @cache
        def attained(scale: float, policy: str = policy) -> float:
            keys = [WorkloadKey(args.trace, args.rows, args.mix, scale, seed) for seed in seeds]
            runs = run_jobs([Job(engine, key, policy) for key in keys], args.workers)
            return float(np.mean([attainment(run) for run in runs]))

        found = [knee(attained, target, args.halvings) for target in targets]
        cells = (f"x{load:.2f} ({load * rate_rps:.2f})" for load in found)
        print(f"| {policy} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
