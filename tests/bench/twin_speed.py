"""How much faster than the modelled GPU is the twin? A thousand chat requests, one core."""

from __future__ import annotations

from scorpio.studies.study import Rows, engine, table
from scorpio.twin.run import run_twin
from workloads.load import LoadKey


def rows(requests: int) -> Rows:
    """Stock vLLM and Scorpio."""
    load = LoadKey("azure-conv-synth", f"0:{requests}", "six", 1.0, 0).requests()
    found: Rows = []
    for system in ("fcfs", "scorpio"):
        run = run_twin(engine(), load, system, 0)
        found.append(
            {
                "system": system,
                "times_real": round(run.virtual_s / run.cpu_s, 1),
                "steps_per_s": round(run.steps / run.cpu_s),
                "in_policy": round(run.plan_s / run.wall_s, 3),
            }
        )
    return found


def text(found: Rows) -> str:
    """Markdown."""
    heads = ("system", "times faster than the modelled GPU", "steps/s", "of it in the policy")
    lines = [
        [f"`{row['system']}`", f"{row['times_real']:.1f}", f"{row['steps_per_s']:,}",
         f"{100.0 * row['in_policy']:.0f} %"]
        for row in found
    ]  # fmt: skip
    return table(heads, lines)
