"""What did other people's load tools see of a real engine? GuideLLM's and AIPerf's files, as a log.

Fields and units: docs/calibrate.md. As with every client, HTTP is in the times.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scorpio.twin.fidelity.engine_log import EngineLog, Served, log_of
from workloads.errors import TraceError, WorkloadError
from workloads.traces.reading import shown
from workloads.traces.row import MAX_TOKENS
from workloads.traces.text import decoded, raw_lines

_MOST_S = 1e11
_TIMINGS = ("request_start", "first_token_iteration", "last_token_iteration")


def read_guidellm(path: Path, report: Mapping[str, Any]) -> EngineLog:
    """The JSON report of `guidellm run`: all its benchmarks, which ran one after the other.

    Raises WorkloadError naming the file and the field.
    """
    served, dropped = [], 0
    with _told(str(path), "requests of a GuideLLM report"):
        for number, benchmark in enumerate(report["benchmarks"]):
            requests = benchmark["requests"]
            dropped += _count(requests["errored"]) + _count(requests["incomplete"])
            for row, request in enumerate(requests["successful"]):
                where = f"{path}: benchmarks[{number}].requests.successful[{row}]"
                if request["output_tokens"]:
                    served.append(_of_guidellm(where, request))
                else:
                    dropped += 1
    return log_of(path, served, dropped)


def read_aiperf(path: Path) -> EngineLog:
    """AIPerf's `profile_export.jsonl`: a line for each request; those of a warm-up are left out.

    Raises WorkloadError naming the file, the line and the field.
    """
    served, dropped = [], 0
    for where, line in _lines(path):
        with _told(where, "request of AIPerf"):
            record = json.loads(decoded(line))
            told = record["metadata"]
            if told.get("phase_kind", "profiling") != "profiling":
                continue
            if record.get("error") or told.get("was_cancelled"):
                dropped += 1
            else:
                served.append(_of_aiperf(where, told, record["metrics"]))
    return log_of(path, served, dropped)


@contextlib.contextmanager
def _told(where: str, what: str) -> Iterator[None]:
    """Whatever is wrong inside is one line that says where."""
    try:
        yield
    except WorkloadError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
            RecursionError) as error:  # fmt: skip
        raise WorkloadError(f"{where}: no {what}: {error!r}") from None


def is_aiperf(record: Mapping[str, Any]) -> bool:
    """Is it a line of `profile_export.jsonl`?"""
    return isinstance(found := record.get("metadata"), dict) and "request_start_ns" in found


def is_guidellm(report: Mapping[str, Any]) -> bool:
    """Is it a report of GuideLLM?"""
    return isinstance(report.get("benchmarks"), list)


def _of_guidellm(where: str, request: Mapping[str, Any]) -> Served:
    times = request["info"]["timings"]
    sent_s, first_s, last_s = (_seconds(where, name, times[name]) for name in _TIMINGS)
    return _served(
        where, sent_s, first_s, last_s, request["prompt_tokens"], request["output_tokens"]
    )


def _of_aiperf(where: str, told: Mapping[str, Any], metrics: Mapping[str, Any]) -> Served:
    """Tokens as the server counts them, where it said so: AIPerf's own count is by its tokenizer,
    of text alone."""

    def value(*names: str) -> Any:
        return metrics[next((name for name in names if name in metrics), names[0])]["value"]

    sent_s = _seconds(where, "request_start_ns", told["request_start_ns"] / 1e9)
    first_s = sent_s + _seconds(where, "time_to_first_token", value("time_to_first_token") / 1e3)
    last_s = sent_s + _seconds(where, "request_latency", value("request_latency") / 1e3)
    prompt = value("usage_prompt_tokens", "input_sequence_length")
    output = value("usage_completion_tokens", "output_sequence_length")
    return _served(where, sent_s, first_s, last_s, prompt, output)


def _served(
    where: str, sent_s: float, first_s: float, last_s: float, prompt: object, output: object
) -> Served:
    if not sent_s <= first_s <= last_s:
        raise WorkloadError(f"{where}: sent, first and last token are not in this order")
    return Served(
        sent_s, _tokens(where, "prompt", prompt), _tokens(where, "output", output), first_s, last_s
    )


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        for number, line in raw_lines(path):
            if line.strip():
                yield f"{path}, line {number}", line
    except TraceError as error:
        raise WorkloadError(f"{path}, line {error.line}: {error.reason}") from None


def _count(requests: object) -> int:
    """GuideLLM writes a list, or how many there were."""
    return len(requests) if isinstance(requests, list) else int(str(requests or 0))


def _seconds(where: str, name: str, value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0.0 <= float(str(value)) < _MOST_S):
        raise WorkloadError(f"{where}: {name} must be a time, got {shown(value)}")
    return float(str(value))


def _tokens(where: str, name: str, value: object) -> int:
    """AIPerf writes counts as floats."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    if not (1 <= number <= MAX_TOKENS and number == int(number)):
        raise WorkloadError(f"{where}: {name}: tokens must be a whole number, got {shown(value)}")
    return int(number)
