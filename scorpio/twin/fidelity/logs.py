"""Which kind of log is this? Told by its first line; each kind has its reader.

What a server or a client wrote of each request is a log; a scrape of `/metrics` is none, and is
read by scrapes.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from scorpio.twin.fidelity.client_log import read_bench, read_own_records
from scorpio.twin.fidelity.engine_log import EngineLog, read_engine_log
from scorpio.twin.fidelity.log_meta import read_meta
from scorpio.twin.fidelity.tool_results import is_aiperf, is_guidellm, read_aiperf, read_guidellm
from workloads.errors import TraceError, WorkloadError
from workloads.traces.text import raw_lines, whole_text

_EXPOSITION = re.compile(r"#|[a-zA-Z_:][\w:]*(\{| )")
_BENCH = ("ttfts", "input_lens", "request_throughput")  # any of them
_RECORD = "scheduled_send_s"


def read_log(path: Path, meta: Path | None = None) -> EngineLog:
    """Requests with the times of their tokens; meta: a file with the limits of their engine.
    Raises WorkloadError naming file, line or field."""
    first = _first_line(path)
    if is_exposition(first):
        raise WorkloadError(
            f"{path}: a scrape of /metrics has no single requests: `scorpio calibrate` takes two"
            " or more of them, `scorpio fidelity` none"
        )
    log = _of_client(path, first)
    if log is None:
        return read_engine_log(path, meta)
    limits, model = read_meta(meta)
    return replace(log, limits={**log.limits, **limits}, model=model or log.model)


def read_client_log(path: Path) -> EngineLog | None:
    """The same of what a client wrote: a load tool's result, or records of ours; None where it is
    something else. Raises WorkloadError."""
    return _of_client(path, _first_line(path))


def _of_client(path: Path, first: str) -> EngineLog | None:
    found = _object(first)
    if found is None and first.lstrip().startswith("{"):
        found = _object(_text(path))  # one object over many lines
    if found is None:
        return None
    if _RECORD in found:
        return read_own_records(path)
    if any(name in found for name in _BENCH):
        return read_bench(path, _only(path))
    if is_guidellm(found):
        return read_guidellm(path, found)
    return read_aiperf(path) if is_aiperf(found) else None


def is_scrape(path: Path) -> bool:
    """Is it Prometheus text? Raises WorkloadError when it cannot be read."""
    return is_exposition(_first_line(path))


def is_exposition(line: str) -> bool:
    """Is it a line of Prometheus text?"""
    return _EXPOSITION.match(line) is not None


def _first_line(path: Path) -> str:
    try:
        for _, line in raw_lines(path):
            if line.strip():
                return line.decode(errors="replace")
    except TraceError as error:
        raise WorkloadError(f"{path}, line {error.line}: {error.reason}") from None
    return ""


def _text(path: Path) -> str:
    try:
        return whole_text(path)
    except TraceError as error:
        raise WorkloadError(f"{path}, line {error.line}: {error.reason}") from None


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _only(path: Path) -> dict[str, Any]:
    """The one result of a benchmark's file; `--append-result` writes several."""
    text, decoder = _text(path).strip(), json.JSONDecoder()
    try:
        found, end = decoder.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}: {error}") from None
    if text[end:].strip():
        raise WorkloadError(f"{path}: holds several results (--append-result); one file for each")
    assert isinstance(found, dict)  # its first line, or all of it, was one
    return found
