"""How much faster than the modelled GPU is the twin? python -m tests.bench.twin_speed"""

from __future__ import annotations

from scorpio.engine.virtual.build import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.step_models import BUILT_IN
from scorpio.twin.run import run_twin
from workloads.named import load_workload


def main() -> None:
    """A thousand requests of the Azure conversation trace, at its own rate, on the A100 model."""
    load = load_workload("azure-conv", "0:1000", 1.0, 0, "six")
    config = TwinConfig(BUILT_IN["a100-llama-3.1-8b"], EngineSpec())
    for policy in ("fcfs", "scorpio"):
        run = run_twin(config, load, policy, 0)
        inside, planning = run.scheduler_s / run.wall_s, run.plan_s / run.wall_s
        print(
            f"{policy:8} {run.virtual_s / run.cpu_s:5.1f} x real time,"
            f" {run.steps / run.cpu_s:6.0f} steps/s,"
            f" in the scheduler {inside:.0%}, in the policy {planning:.0%}"
        )


if __name__ == "__main__":
    main()
