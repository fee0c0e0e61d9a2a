"""How do the API process and EngineCore talk at run time? Small JSON files in `run_dir`: one with
what the operator wants, and for each engine one with its state.

vLLM's own channel (`call_utility`) reaches EngineCore's methods only, not a scheduler's, and
request fields come from clients, so a policy switch must not travel there. A file replaced
atomically works with any number of API processes and can be read by a person. Writers replace
whole files; readers see the old or the new one, never half.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorpio.files import write_private

CONTROL = "control.json"
STATUS = "status.json"  # of engine 0, like STEPS; others: `of_engine`
STEPS = "steps.jsonl"
LEDGER = "ledger.jsonl"  # of engine 0 too; when it is full it becomes LEDGER_OLD
LEDGER_OLD = "ledger.old.jsonl"
LEDGER_SALT = "ledger.salt"
OFF = "off"  # while it is there the policy is off
RELOAD = "reload.json"  # the SLO file that all API processes of one server go by
SHARED = "api.shared"  # numbers of several API processes (scorpio/server/shared.py)
# Upper bounds of the buckets of TTFT slack in the status (seconds; negative = late).
SLACK_BOUNDS_S = (-10.0, -3.0, -1.0, -0.3, -0.1, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
# Why the policy is off, `policy_off` in the status: by itself for a while, or by the file OFF.
ERRORS, OVERRUN, FORECASTS, BY_HAND = "errors", "overrun", "forecasts", "by_hand"
BREAKERS = (ERRORS, OVERRUN, FORECASTS)
# Who decides on a request while a canary is on, `canary` in the status.
POLICY_ARM, STOCK_ARM = "policy", "stock"
Stamp = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Control:
    """What the operator wants from EngineCore. `seq` grows by one with each write.

    latency: a latency profile to go by from now on, as `LatencyProfile.to_dict` writes it; None =
        the one the server was started with.
    """

    policy: str
    options: Mapping[str, float] = field(default_factory=dict)
    record_steps: bool = False
    seq: int = 0
    latency: Mapping[str, Any] | None = None


def write_control(
    run_dir: str | os.PathLike[str],
    policy: str,
    options: Mapping[str, float] | None = None,
    record_steps: bool = False,
    latency: Mapping[str, Any] | None = None,
) -> int:
    """Ask EngineCore for a policy; returns the sequence number that `status` will show.

    A latency profile that was given once stays until another is.

    Writers take turns, threads and processes alike: no two are told the same number. When several
    write before the engine looks, the last one is in force and its number is what status shows.

    Raises:
        OSError: the directory is gone or cannot be written.
    """
    with turn(run_dir, CONTROL):
        current = read_control(run_dir)
        seq = 1 if current is None else current.seq + 1
        if latency is None and current is not None:
            latency = current.latency
        _replace(
            Path(run_dir) / CONTROL,
            {
                "policy": policy,
                "options": dict(options or {}),
                "record_steps": record_steps,
                "seq": seq,
                "latency": None if latency is None else dict(latency),
            },
        )
    return seq


def read_control(run_dir: str | os.PathLike[str]) -> Control | None:
    """The last request, or None when there was none or the file is unusable."""
    raw = _read(Path(run_dir) / CONTROL)
    if raw is None:
        return None
    policy, options, seq = raw.get("policy"), raw.get("options", {}), raw.get("seq")
    if not isinstance(policy, str) or not isinstance(options, dict) or not isinstance(seq, int):
        return None
    latency = raw.get("latency")
    if latency is not None and not isinstance(latency, dict):
        return None
    return Control(policy, options, raw.get("record_steps") is True, seq, latency)


def of_engine(name: str, engine: int) -> str:
    """STATUS, STEPS or LEDGER of one data-parallel rank: `status.json`, `status-1.json`, ..."""
    stem, dot, ending = name.partition(".")
    return name if engine == 0 else f"{stem}-{engine}{dot}{ending}"


def write_status(
    run_dir: str | os.PathLike[str], status: Mapping[str, Any], engine: int = 0
) -> None:
    """Publish EngineCore's state."""
    _replace(os.path.join(run_dir, of_engine(STATUS, engine)), status)


def read_status(run_dir: str | os.PathLike[str], engine: int = 0) -> dict[str, Any] | None:
    """EngineCore's last published state, or None before its first step."""
    return _read(Path(run_dir) / of_engine(STATUS, engine))


def write_reload(run_dir: str | os.PathLike[str], told: Mapping[str, Any]) -> None:
    """Tell the other API processes of this server what to go by (server/accounts/agreed.py). In a
    `turn` of RELOAD. Raises OSError."""
    _replace(Path(run_dir) / RELOAD, told)


def read_reload(run_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What was told last, or None."""
    return _read(Path(run_dir) / RELOAD)


def forget(run_dir: str | os.PathLike[str]) -> None:
    """Remove what engines that are gone have left behind: their states, and the last wish."""
    for pattern in (CONTROL, RELOAD, SHARED, STATUS, of_engine(STATUS, 1).replace("1", "*")):
        for stale in Path(run_dir).glob(pattern):
            stale.unlink(missing_ok=True)


def stamp(run_dir: str | os.PathLike[str], name: str) -> Stamp:
    """Differs when the file was replaced; None when there is none. A few microseconds."""
    try:
        stat = os.stat(os.path.join(run_dir, name))
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


def _read(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


@contextlib.contextmanager
def turn(run_dir: str | os.PathLike[str], name: str) -> Iterator[None]:
    """One writer of this file at a time; the kernel ends a dead writer's turn. Raises OSError."""
    lock = os.path.join(run_dir, f".{name}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: str | Path, content: Mapping[str, Any]) -> None:
    write_private(path, json.dumps(content))  # in one go: `dump` takes ten times as long
