"""Which policy keeps the most promises on this load and GPU? `scorpio compare --engine twin`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from scorpio.files import write_atomic
from scorpio.ledger.decision import FOLDER
from scorpio.studies.compare_spec import CompareSpec
from scorpio.studies.manifest import Manifest, manifest_of, write_manifest
from scorpio.studies.tuning import tried_settings, tune
from scorpio.studies.tuning_space import Options, TuneSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import Job, JobFailed, run_jobs
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
        tuned = self.config.policy_options.get(TUNED) or DEFAULT_TUNING
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


def run_compare(
    spec: CompareSpec, progress: Progress | None = None, manifest: Manifest | None = None
) -> Comparison:
    """Run every policy on every load; summary.json, records, timelines and report in `out_dir`.

    The content does not depend on `workers`, but for the times that this machine took. Runs that
    are there are not made again; one that dies is in the summary, and the others go on.
    manifest: of this comparison, when it is known.

    Raises:
        WorkloadError: unknown name or malformed trace, or a directory with other results; nothing
            has been written.
        JobFailed: every run died.
    """
    spec.check()
    write_manifest(spec.out_dir, manifest_of(spec) if manifest is None else manifest)
    there = (spec.out_dir / "summary.json").exists()
    comparison = Comparison.load(spec.out_dir) if there else Comparison(spec.out_dir)
    config = spec.config()
    count = _Counter(_total(spec, config), progress)
    if spec.tune is not None:
        config = _tuned(spec, spec.tune, config, count)
    failure = _run_missing(spec, config, comparison, count)
    if spec.bound:
        _bound_missing(spec, config, comparison, count)
    if failure is not None and not comparison.runs:
        comparison.write()
        raise failure
    write_results(comparison, spec.command)
    return comparison


def _run_missing(
    spec: CompareSpec, config: TwinConfig, comparison: Comparison, count: _Counter
) -> JobFailed | None:
    """Make the runs that are not there; returns a failure, if there was one."""
    jobs, failures = list[Job](), list[JobFailed]()
    for workload in spec.workloads():
        for policy in spec.policies:
            job = Job(config, workload, policy)
            if comparison.has_run(_key(spec, job)):
                count(job.label)
            else:
                jobs.append(job)

    def ran(number: int, run: TwinRun) -> None:
        key = _key(spec, jobs[number])
        if spec.log_decisions:
            _write_decisions(comparison.records_path(key), run)
        comparison.add_run(key, run.records, run.stats, run.timeline)
        comparison.write(complete=False)
        count(jobs[number].label)

    def failed(number: int, error: JobFailed) -> None:
        failures.append(error)
        comparison.add_failure(_key(spec, jobs[number]), " ".join(str(error).split()))
        count(jobs[number].label)

    run_jobs(jobs, spec.workers, ran, failed)
    return failures[0] if failures else None


def _write_decisions(records: Path, run: TwinRun) -> None:
    """Beside the records, under the same name: `scorpio explain` finds them by it."""
    path = records.parent.parent / FOLDER / records.name
    write_atomic(path, "".join(decision.to_line() for decision in run.decisions))


def _bound_missing(
    spec: CompareSpec, config: TwinConfig, comparison: Comparison, count: _Counter
) -> None:
    bounds = list[BoundJob]()
    for workload in spec.workloads():
        job = BoundJob(config, workload)
        if comparison.has_bound(workload):
            count(job.label)
        else:
            bounds.append(job)

    def bounded(number: int, good: int) -> None:
        comparison.add_bound(bounds[number].load, good)
        comparison.write(complete=False)
        count(bounds[number].label)

    run_jobs(bounds, spec.workers, bounded)


def _tuned(
    spec: CompareSpec, tuning: TuneSpec, config: TwinConfig, done: Callable[[str], None]
) -> TwinConfig:
    """The configuration with the best setting of each policy, kept in tuning.json."""
    path, loads = spec.out_dir / "tuning.json", spec.tuning_loads()
    tried = _tried(spec, tuning, config)
    if path.exists():  # of this comparison: the manifest says so
        found = json.loads(path.read_text())["policies"]
        for _ in range(sum(map(len, tried.values())) * len(loads)):
            done("tuned before")
    else:
        tunings = tune(config, tried, loads, spec.workers, done)
        found = {policy: one.to_dict() for policy, one in tunings.items()}
        where = {"rows": loads[0].rows, "rate_scales": spec.rate_scales, "seed": spec.seeds[0]}
        write_atomic(path, json.dumps({**where, "policies": found}, indent=1) + "\n")
    chosen = {policy: dict(one["options"]) for policy, one in found.items()}
    return replace(config, policy_options={**config.policy_options, **chosen})


def _tried(spec: CompareSpec, tuning: TuneSpec, config: TwinConfig) -> dict[str, list[Options]]:
    seqs = config.engine.max_num_seqs
    return tried_settings(tuning.policies, tuning.trials, spec.seeds[0], seqs)


def _key(spec: CompareSpec, job: Job) -> RunKey:
    return RunKey(policy=job.policy, engine="twin", gpu=spec.gpu, load=job.load)


def _total(spec: CompareSpec, config: TwinConfig) -> int:
    loads = len(spec.workloads())
    tried = {} if spec.tune is None else _tried(spec, spec.tune, config)
    tuning = sum(map(len, tried.values())) * len(spec.rate_scales)
    return loads * (len(spec.policies) + spec.bound) + tuning


class _Counter:
    """Counts finished jobs and tells `progress`."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def __call__(self, label: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, label)
