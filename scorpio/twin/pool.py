"""How do many runs share the cores? A process pool; results are those of the serial order.

Workers are forked, so vLLM is imported once. A job carries everything that its run depends on:
which worker takes it, and when, changes nothing but the wall time.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol, TypeVar

from scorpio.twin.config import TwinConfig
from scorpio.twin.run import TwinRun, run_twin
from workloads.load import LoadKey

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Protocol[T_co]):
    """A picklable piece of work that depends on nothing but itself."""

    @property
    def label(self) -> str:
        """What it is, for progress and errors."""

    def run(self) -> T_co:
        """Do it here and now."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run to make. `config` fixes everything but load, policy and seed."""

    config: TwinConfig
    load: LoadKey
    policy: str

    @property
    def label(self) -> str:
        """Policy and load."""
        return f"{self.policy} on {self.load.label}"

    def run(self) -> TwinRun:
        """Do it here and now."""
        return run_twin(self.config, self.load.requests(), self.policy, self.load.seed)


class JobFailed(RuntimeError):
    """A task died; the message says which one. The cause is chained."""

    def __init__(self, label: str, error: BaseException) -> None:
        super().__init__(f"{label}: {type(error).__name__}: {error}")


def run_jobs(
    jobs: Sequence[Task[T]],
    workers: int | None = None,
    done: Callable[[int, T], None] | None = None,
    failed: Callable[[int, JobFailed], None] | None = None,
) -> list[T]:
    """All jobs; results in the order of `jobs`, `done(number, result)` is called as they end.

    workers: None = the cores this process may use; 1 = in this process, one after the other.
    failed: called for each job that dies; the others go on, and it has no result.

    Raises:
        JobFailed: without `failed`, the first failure; the rest is cancelled.
    """
    count = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    results: dict[int, T] = {}

    def finish(number: int, result: Callable[[], T]) -> None:
        try:
            results[number] = result()
        except Exception as error:
            failure = JobFailed(jobs[number].label, error)
            if failed is None:
                raise failure from error
            failed(number, failure)
            return
        if done is not None:
            done(number, results[number])

    if count <= 1:
        for number, job in enumerate(jobs):
            finish(number, job.run)
    else:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(count, mp_context=context) as pool:
            futures = {pool.submit(job.run): number for number, job in enumerate(jobs)}
            try:
                for future in as_completed(futures):
                    finish(futures[future], future.result)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [results[number] for number in sorted(results)]
