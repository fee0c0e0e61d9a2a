"""Did a change of form change anything? One digest per policy and load.

`python -m tests.twin.digests`: run it before and after. Two lists that are the same to the letter
mean that every policy did exactly the same, step by step, on loads from light to overload.
"""

from __future__ import annotations

import sys

from scorpio.core.registry import policy_names
from scorpio.studies.study import engine
from scorpio.twin.pool import Job, run_jobs
from workloads.load import LoadKey

# A chat load near the knee, the same far above it, and agents whose prompts begin alike. They are
# synthetic: they come with the project.
LOADS = (
    LoadKey("azure-conv-synth", "0:300", "six", 1.1, 0),
    LoadKey("azure-conv-synth", "0:300", "six", 2.4, 1),
    LoadKey("toolagent-synth", "0:200", "six", 0.3, 2),
)


def main() -> int:
    """Prints `policy trace scale digest`, a line each."""
    config = engine("a100-llama-3.1-8b")
    jobs = [Job(config, load, policy) for policy in policy_names() for load in LOADS]
    for job, run in zip(jobs, run_jobs(jobs), strict=True):
        load = job.load
        print(f"{job.policy:16} {load.trace:18} x{load.rate_scale:<4g} {run.event_digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
