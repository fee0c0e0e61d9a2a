"""Which policy keeps the most promises on this load and GPU? `scorpio compare --engine twin`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from scorpio.files import write_atomic
from scorpio.studies.compare_spec import CompareSpec
from scorpio.studies.tuning import grid_options, tune
from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import Job, run_jobs
from scorpio.twin.run import TwinRun
from scorpio.twin.systems import DEFAULT_TUNING, TUNED
from workloads.bound.ceiling import BoundEngine, upper_bound
from workloads.load import LoadKey
from workloads.report.html import write_results
from workloads.results.run_summary import RunKey
from workloads.results.summary import Comparison

# (finished, total, what)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class BoundJob:
    """The most good requests that any policy can reach on a load."""

    config: TwinConfig
    load: LoadKey

    @property
    def label(self) -> str:
        """The load."""
        return f"bound of {self.load.label}"

    def run(self) -> int:
        """Compute it."""
        gpu, engine = self.config.gpu, self.config.engine
        tuned = self.config.policy_options.get(TUNED, DEFAULT_TUNING)
        budget = max(engine.max_num_batched_tokens, int(tuned["max_num_batched_tokens"]))
        limits = BoundEngine(
            max_num_seqs=engine.max_num_seqs,
            max_num_batched_tokens=budget,
            kv_tokens=engine.kv_tokens,
            kv_block_tokens=engine.block_size,
            prefix_caching=engine.enable_prefix_caching,
        )
        load, sigma = self.load.requests(), self.config.noise.sigma
        return upper_bound(load, gpu.step, gpu.gap_s, limits, noise_sigma=sigma).good


def run_compare(spec: CompareSpec, progress: Progress | None = None) -> Comparison:
    """Run every policy on every load; summary.json, records, timelines and report in `out_dir`.

    The content does not depend on `workers`, but for the times that this machine took.

    Raises:
        WorkloadError: unknown name or malformed trace; nothing has been written.
        JobFailed: a run died.
    """
    spec.check()
    workloads = spec.workloads()
    config = spec.config()
    count = _Counter(_total(spec, config), progress)
    if spec.tune and TUNED in spec.policies:
        config = _tuned(spec, config, count)
    comparison = Comparison(spec.out_dir)
    jobs = [Job(config, workload, policy) for workload in workloads for policy in spec.policies]

    def ran(number: int, run: TwinRun) -> None:
        key = _key(spec, jobs[number])
        comparison.add_run(key, run.records, run.stats, run.timeline)
        count(jobs[number].label)

    run_jobs(jobs, spec.workers, ran)
    if spec.bound:
        bounds = [BoundJob(config, workload) for workload in workloads]

        def bounded(number: int, good: int) -> None:
            comparison.add_bound(bounds[number].load, good)
            count(bounds[number].label)

        run_jobs(bounds, spec.workers, bounded)
    write_results(comparison, spec.command)
    return comparison


def _tuned(spec: CompareSpec, config: TwinConfig, done: Callable[[str], None]) -> TwinConfig:
    """The configuration with the best stock setting for this workload, kept in tuning.json."""
    first_seed = [w for w in spec.workloads() if w.seed == spec.seeds[0]]
    tuning = tune(config, first_seed, spec.workers, done)
    content = {TUNED: tuning.to_dict(), "seed": spec.seeds[0]}
    write_atomic(spec.out_dir / "tuning.json", json.dumps(content, indent=1) + "\n")
    return replace(config, policy_options={**config.policy_options, TUNED: dict(tuning.options)})


def _key(spec: CompareSpec, job: Job) -> RunKey:
    return RunKey(policy=job.policy, engine="twin", gpu=spec.gpu, load=job.load)


def _total(spec: CompareSpec, config: TwinConfig) -> int:
    loads = len(spec.workloads())
    grid = len(grid_options(config.engine.max_num_seqs)) * len(spec.rate_scales)
    tuning = grid if spec.tune and TUNED in spec.policies else 0
    return loads * (len(spec.policies) + spec.bound) + tuning


class _Counter:
    """Counts finished jobs and tells `progress`."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def __call__(self, label: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, label)
