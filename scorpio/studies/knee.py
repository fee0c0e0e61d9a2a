"""How much load can a policy carry? `python -m scorpio.studies.knee --policy scorpio,fcfs`.

The knee is the largest multiple of the trace's rate at which attainment, mean over the seeds, still
reaches a target: found by halving between loads, and by a straight line within the last bracket.
Attainment is taken to fall with load; on a short window it does so up to about half a point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from scorpio.studies.grid import attainment
from scorpio.studies.window import add_runs, engine, numbers, window_parser, workloads
from scorpio.twin.pool import Job, run_jobs

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
    parser = window_parser(__doc__)
    add_runs(parser)
    parser.add_argument("--policy", default="scorpio,qoserve,fcfs-tuned,fcfs")
    parser.add_argument("--target", type=numbers, default="99,90")
    parser.add_argument("--halvings", type=int, default=4)
    args = parser.parse_args()
    config = engine(args.gpu)
    unit = workloads(args, 1.0)[0].requests()
    rate_rps = (len(unit) - 1) / unit[-1].send_s
    print(
        "| policy | "
        + " | ".join(f"{target:g} %, load (requests/s)" for target in args.target)
        + " |"
    )
    print("|" + "---|" * (len(args.target) + 1))
    for policy in args.policy.split(","):

        @cache
        def attained(scale: float, policy: str = policy) -> float:
            jobs = [Job(config, key, policy) for key in workloads(args, scale)]
            runs = run_jobs(jobs, args.workers)
            return float(np.mean([attainment(run) for run in runs]))

        found = [knee(attained, target, args.halvings) for target in args.target]
        cells = (f"x{load:.2f} ({load * rate_rps:.2f})" for load in found)
        print(f"| {policy} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
