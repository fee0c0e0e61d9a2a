"""Where do the results of a comparison live? One folder, every file in it whole.

DIR/summary.json          {"schema": 1, "complete": true, "runs": [...], "failed": [...], "bound":
                          [...]}; complete: no run is still to come
DIR/results.csv           a line per policy, load and class (workloads.results.results_csv)
DIR/records/RUN.jsonl     one line per request
DIR/decisions/RUN.jsonl   twin: what each request met, with --log-decisions
DIR/timelines/RUN.json    samples of the engine, when it gave some
(report.html and the PNGs are added by workloads.report.html.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from scorpio.files import write_atomic
from workloads.errors import WorkloadError
from workloads.load import IN_RESULTS, LoadKey
from workloads.results.aggregate import LoadPoint, Run, TimelineSample, load_points
from workloads.results.metrics import summarise
from workloads.results.policy_order import policy_order
from workloads.results.record_files import read_records, write_records
from workloads.results.records import RequestRecord
from workloads.results.run_summary import EngineStats, RunKey, RunSummary

SCHEMA = 1


class Comparison:
    """Collects runs and bounds; the order in which they come does not matter."""

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir
        self._runs: dict[RunKey, Run] = {}
        self._bounds: dict[LoadKey, int] = {}
        self._failures: dict[RunKey, str] = {}

    def add_run(
        self,
        key: RunKey,
        records: Sequence[RequestRecord],
        engine: EngineStats | None = None,
        timeline: Iterable[TimelineSample] = (),
    ) -> RunSummary:
        """Summarise one run and write its records at once, so that they survive a later stop.

        Raises:
            ValueError: this run is already there, or has no records.
        """
        key = replace(key, load=key.load.in_results)
        if key in self._runs:
            raise ValueError(f"{key} was added twice")
        path = self.records_path(key)
        name = path.stem
        summary = summarise(key, records, engine)
        summary = replace(summary, records_file=path.relative_to(self.out_dir).as_posix())
        write_records(path, records)
        samples = list(timeline)
        if samples:
            write_atomic(
                self.out_dir / "timelines" / f"{name}.json", json.dumps(samples, default=float)
            )
        self._keep(summary, records, samples)
        return summary

    def add_bound(self, load: LoadKey, good: int) -> None:
        """Record that no policy can serve more than `good` requests of this load well."""
        self._bounds[load.in_results] = good

    def add_failure(self, key: RunKey, error: str) -> None:
        """Record that this run died; error: one line that says of what."""
        self._failures[replace(key, load=key.load.in_results)] = error

    def has_run(self, key: RunKey) -> bool:
        """Is this run there?"""
        return replace(key, load=key.load.in_results) in self._runs

    def has_bound(self, load: LoadKey) -> bool:
        """Is the bound of this load there?"""
        return load.in_results in self._bounds

    @property
    def failures(self) -> list[tuple[RunKey, str]]:
        """Runs that died, and of what, in an order of their own."""
        return sorted(self._failures.items(), key=lambda item: str(item[0]))

    def write(self, complete: bool = True) -> Path:
        """Write summary.json; returns its path. complete: no run is still to come."""
        path = self.out_dir / "summary.json"
        write_atomic(path, json.dumps(self.to_dict(complete), indent=1, allow_nan=False) + "\n")
        return path

    def to_dict(self, complete: bool = True) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "schema": SCHEMA,
            "complete": complete,
            "runs": [run.summary.to_dict() for run in self.runs],
            "failed": [{**key.fields(), "error": error} for key, error in self.failures],
            "bound": [
                {**{name: getattr(load, name) for name in IN_RESULTS}, "good": self._bounds[load]}
                for load in sorted(self._bounds, key=attrgetter(*IN_RESULTS))
            ],
        }

    @property
    def runs(self) -> list[Run]:
        """All runs, ordered by scenario, load, policy, seed, repeat."""
        return sorted(self._runs.values(), key=lambda run: _order(run.summary))

    def points(self) -> list[LoadPoint]:
        """What each policy achieved at each load."""
        return load_points(self.runs, self._bounds)

    @classmethod
    def load(cls, out_dir: Path) -> Comparison:
        """Read a folder written earlier. Raises WorkloadError when it is not one."""
        comparison = cls(out_dir)
        path = out_dir / "summary.json"
        try:
            content = json.loads(path.read_text())
            if content["schema"] != SCHEMA:
                raise WorkloadError(f"{path}: schema {content['schema']!r}, this reads {SCHEMA}")
            for entry in content["bound"]:
                load = LoadKey(rows=None, **{name: entry[name] for name in IN_RESULTS})
                comparison.add_bound(load, entry["good"])
            for entry in content["runs"]:
                comparison._load_run(RunSummary.from_dict(entry))
        except (
            OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError,
            RecursionError,
        ) as error:  # fmt: skip
            if isinstance(error, WorkloadError):
                raise
            raise WorkloadError(f"{path}: not a readable comparison: {error}") from None
        return comparison

    def _load_run(self, summary: RunSummary) -> None:
        if summary.records_file is None:
            raise ValueError("a run without records_file")
        samples_path = self.out_dir / "timelines" / f"{Path(summary.records_file).stem}.json"
        samples = json.loads(samples_path.read_text()) if samples_path.exists() else []
        self._keep(summary, read_records(self.out_dir / summary.records_file), samples)

    def _keep(
        self,
        summary: RunSummary,
        records: Sequence[RequestRecord],
        samples: Sequence[TimelineSample],
    ) -> None:
        # token times are on disk; a sweep of hundreds of runs need not hold them
        light = [replace(record, token_times_s=None) for record in records]
        self._runs[summary.key] = Run(summary, light, samples)

    def records_path(self, key: RunKey) -> Path:
        """Where the records of a new run belong; a live replay may write them there itself."""
        parts = (
            key.engine,
            Path(key.gpu).name,
            Path(key.load.trace).name,
            key.load.mix,
            key.policy,
        )
        tail = f"x{key.load.rate_scale:g}-s{key.load.seed}" + (
            f"-r{key.repeat}" if key.repeat else ""
        )
        name = re.sub(r"[^A-Za-z0-9.+_-]+", "_", "-".join((*parts, tail)))
        taken = {Path(run.summary.records_file or "").stem for run in self._runs.values()}
        choices = (name, *(f"{name}~{number}" for number in range(2, len(taken) + 3)))
        free = next(choice for choice in choices if choice not in taken)
        return self.out_dir / "records" / f"{free}.jsonl"


def _order(summary: RunSummary) -> tuple[Any, ...]:
    scenario = (summary.engine, summary.gpu, summary.trace, summary.mix)
    place = (summary.rate_scale, policy_order(summary.policy), summary.seed, summary.repeat)
    return (*scenario, *place)
