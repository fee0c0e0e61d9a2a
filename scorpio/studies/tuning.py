"""How good can each policy get with its own options? As many settings for each, on other traffic.

One setting is chosen per policy, for all loads of a workload together, as an operator would have
to: on a part of the trace that is not measured afterwards. So the figures of a tuned policy are
those of options that had not seen the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scorpio.studies.tuning_space import Options, settings
from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import Job, JobFailed, run_jobs
from scorpio.twin.run import TwinRun
from workloads.load import LoadKey


@dataclass(frozen=True, slots=True)
class Trial:
    """A setting and its mean attainment over the loads; None: a run of it died."""

    options: Options
    attainment: float | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """All that was tried for one policy; the standard setting first."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The highest mean attainment; ties go to the earlier one."""
        return max(self.trials, key=_place)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "options": self.best.options,
            "attainment": self.best.attainment,
            "standard_attainment": self.trials[0].attainment,
            "trials": [
                {"options": trial.options, "attainment": trial.attainment} for trial in self.trials
            ],
        }


def tune(
    config: TwinConfig,
    tried: Mapping[str, Sequence[Options]],
    loads: Sequence[LoadKey],
    workers: int | None = None,
    done: Callable[[str], None] | None = None,
) -> dict[str, Tuning]:
    """Every setting of every policy on every load. tried: by policy, the standard setting first.

    Raises JobFailed: every setting of a policy died on some load.
    """
    jobs = [
        Job(replace(config, policy_options={policy: options}), load, policy)
        for policy, all_options in tried.items()
        for options in all_options
        for load in loads
    ]
    shares, failures = dict[int, float](), list[JobFailed]()

    def ended(number: int, run: TwinRun) -> None:
        shares[number] = sum(record.good for record in run.records) / len(run.records)
        _tell(number)

    def failed(number: int, error: JobFailed) -> None:
        failures.append(error)
        _tell(number)

    def _tell(number: int) -> None:
        if done is not None:
            done(f"tuning {jobs[number].label}")

    run_jobs(jobs, workers, ended, failed)
    means = iter(_means(shares, len(jobs), len(loads)))
    found = {
        policy: Tuning(tuple(Trial(dict(options), next(means)) for options in all_options))
        for policy, all_options in tried.items()
    }
    if any(tuning.best.attainment is None for tuning in found.values()):
        raise failures[0]
    return found


def tried_settings(
    policies: Sequence[str], trials: int, seed: int, max_num_seqs: int
) -> dict[str, list[Options]]:
    """What `tune` tries, by policy."""
    return {policy: settings(policy, trials, seed, max_num_seqs) for policy in policies}


def told(content: Mapping[str, Any]) -> Iterator[str]:
    """tuning.json in sentences."""
    where = f"rows {content['rows']}, seed {content['seed']}"
    for policy, found in content["policies"].items():
        chosen = ", ".join(f"{name} {value:g}" for name, value in found["options"].items())
        yield (
            f"{policy}, tuned on {where}: {chosen or 'its standard setting'}; there"
            f" {_percent(found['attainment'])} good, {_percent(found['standard_attainment'])} by"
            f" default, of {len(found['trials'])} settings"
        )


def _means(shares: Mapping[int, float], jobs: int, loads: int) -> Iterator[float | None]:
    for first in range(0, jobs, loads):
        mine = [shares.get(number) for number in range(first, first + loads)]
        known = [share for share in mine if share is not None]
        yield sum(known) / loads if len(known) == loads else None


def _place(trial: Trial) -> float:
    return -1.0 if trial.attainment is None else trial.attainment


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100.0 * share:.1f} %"
