"""How good can stock vLLM get with its own knobs? The grid behind `fcfs-tuned`.

Two knobs decide the trade between TTFT and TPOT: the token budget of a step, and the cap on
queued prompt tokens. One setting is chosen per workload, for all its loads together, as an
operator would have to; it may even be tuned on the very requests it is then measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import Job, run_jobs
from scorpio.twin.run import TwinRun
from scorpio.twin.systems import TUNED
from workloads.load import LoadKey

BUDGETS = (256, 512, 1024, 2048, 4096)
QUEUE_CAPS = (0, 3_000, 6_000, 12_000, 24_000, 48_000)  # prompt tokens; 0 = no cap


@dataclass(frozen=True, slots=True)
class Tuning:
    """The winner, and every grid point with its mean attainment over the loads."""

    options: Mapping[str, float]
    attainment: float
    grid: tuple[tuple[Mapping[str, float], float], ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "options": dict(self.options),
            "attainment": self.attainment,
            "grid": [{**options, "attainment": mean} for options, mean in self.grid],
        }


def grid_options(max_num_seqs: int) -> list[dict[str, float]]:
    """All settings that vLLM accepts: a budget below max_num_seqs is none."""
    return [
        {"max_num_batched_tokens": float(budget), "max_num_queued_tokens": float(cap)}
        for budget in BUDGETS
        if budget >= max_num_seqs
        for cap in QUEUE_CAPS
    ]


def tune(
    config: TwinConfig,
    workloads: Sequence[LoadKey],
    workers: int | None = None,
    done: Callable[[str], None] | None = None,
) -> Tuning:
    """The setting with the highest mean attainment; ties go to the earlier one in the grid."""
    grid = grid_options(config.engine.max_num_seqs)
    jobs = [
        Job(replace(config, policy_options={TUNED: options}), workload, TUNED)
        for options in grid
        for workload in workloads
    ]

    def ended(number: int, run: TwinRun) -> None:
        if done is not None:
            done(jobs[number].label)

    runs = run_jobs(jobs, workers, ended)
    n = len(workloads)
    means = [
        sum(_attainment(run) for run in runs[first : first + n]) / n
        for first in range(0, len(runs), n)
    ]
    best = max(range(len(grid)), key=lambda i: means[i])
    return Tuning(grid[best], means[best], tuple(zip(grid, means, strict=True)))


def _attainment(run: TwinRun) -> float:
    return sum(record.good for record in run.records) / len(run.records)
