"""Which decisions does a comparison's directory hold? The run that is meant, and one request of it.

DIR/summary.json names the runs, DIR/decisions/ has the log of each (`--log-decisions`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scorpio.ledger.decision import FOLDER, MOST_REQUESTS, Decision, decision_of
from scorpio.ledger.files import LedgerError

_SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One run of a comparison, and where its decisions are."""

    policy: str
    rate_scale: float
    seed: int
    log: Path


@dataclass(frozen=True, slots=True)
class Choice:
    """Which run is meant; None: whichever there is, when there is one."""

    policy: str | None = None
    rate_scale: float | None = None
    seed: int | None = None


def is_comparison(place: Path) -> bool:
    """Has it results of `scorpio compare`?"""
    return (place / _SUMMARY).is_file()


def decisions_in(place: Path, request: str, choice: Choice) -> list[Decision]:
    """All tries of a request in the run that is meant.

    Raises:
        LedgerError: no log, no such run or request, several runs; names what there is.
    """
    run = _chosen(_runs(place), choice, place)
    index = _index(request, run.log)
    found, indices = list[Decision](), set[int]()
    try:
        with run.log.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    decision = decision_of(line)
                except (ValueError, RecursionError) as error:
                    raise LedgerError(f"{run.log}:{number}: {error}") from None
                indices.add(decision.index)
                if decision.index == index:
                    found.append(decision)
    except OSError as error:
        raise LedgerError(f"{run.log}: cannot be read: {error.strerror or error}") from None
    if not found:
        held = f"it holds {min(indices)} to {max(indices)}" if indices else "it is empty"
        raise LedgerError(
            f"no request {index} in {run.log}: {held}; a log has the first {MOST_REQUESTS:,} of a"
            " run"
        )
    return sorted(found, key=lambda decision: decision.tries)


def _runs(place: Path) -> list[LoggedRun]:
    """Those with a log."""
    path = place / _SUMMARY
    try:
        runs = [
            LoggedRun(
                str(run["policy"]),
                float(run["rate_scale"]),
                int(run["seed"]),
                place / FOLDER / f"{Path(run['records_file']).stem}.jsonl",
            )
            for run in json.loads(path.read_bytes())["runs"]
        ]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise LedgerError(f"{path}: not a readable comparison: {error}") from None
    logged = [run for run in runs if run.log.is_file()]
    if not logged:
        raise LedgerError(
            f"{place}: a comparison without decisions: they are kept by `scorpio compare"
            " --log-decisions`, in a new directory"
        )
    return logged


def _chosen(runs: Sequence[LoggedRun], choice: Choice, place: Path) -> LoggedRun:
    left = list(runs)
    for name in ("policy", "rate_scale", "seed"):
        wanted = getattr(choice, name)
        there = list(dict.fromkeys(getattr(run, name) for run in left))
        option = f"--{name.replace('_', '-')}"
        valid = ", ".join(f"{value:g}" if name == "rate_scale" else str(value) for value in there)
        if wanted is None and len(there) > 1:
            raise LedgerError(f"{place} has several runs: say {option}; valid: {valid}")
        left = [run for run in left if wanted is None or getattr(run, name) == wanted]
        if not left:
            raise LedgerError(f"{option}: {place} has no run of {wanted}; valid: {valid}")
    if len(left) > 1:
        raise LedgerError(f"{place} has several runs of that load; compare into one directory each")
    return left[0]


def _index(request: str, log: Path) -> int:
    try:
        if (index := int(request)) >= 0:
            return index
    except ValueError:
        pass
    raise LedgerError(f"'{request}' is no request of {log}: say its number, as 17")
