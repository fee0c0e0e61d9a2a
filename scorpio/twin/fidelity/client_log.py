"""What did clients see of a real engine? vLLM's own benchmark, or records of ours, as a log.

Their clock is the client's: the way to the server and back, HTTP and tokenising are in the times,
and a fit takes them for the engine's own. Fields and units: docs/calibrate.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scorpio.twin.fidelity.engine_log import EngineLog, Served, log_of
from scorpio.twin.fidelity.log_meta import LIMITS
from workloads.errors import WorkloadError
from workloads.results.record_files import read_records
from workloads.results.records import Outcome
from workloads.traces.reading import shown
from workloads.traces.row import MAX_TOKENS

_LISTS = ("start_times", "ttfts", "itls", "input_lens", "output_lens")
_MOST_S = 1e11
_STOCK = ("fcfs", "fcfs-tuned", "fcfs+queue-cap")


def read_bench(path: Path, result: Mapping[str, Any]) -> EngineLog:
    """The result of `vllm bench serve --save-result --save-detailed`: one JSON object, seconds.

    Raises WorkloadError naming the file and the field.
    """
    lists = {name: _list(path, result, name) for name in _LISTS}
    count = len(lists["start_times"])
    for name in (*_LISTS, "errors", "latencies"):
        values = lists.get(name, result.get(name))
        if isinstance(values, list) and len(values) != count:
            raise WorkloadError(
                f"{path}: {name} has {len(values)} values, start_times {count}: one per request"
            )
    served = list(_served(path, result, lists))
    model = str(result.get("model_id", path.stem))
    log = log_of(path, served, count - len(served), model=model)
    _check_unit(path, result, served)
    return log


def read_own_records(path: Path) -> EngineLog:
    """A file of `records/`, of a run under stock vLLM: the twin replays it as such.

    Raises WorkloadError naming the file, the line and the reason.
    """
    policy = _beside(path, "summary.json", lambda found: _policy(path, found))
    if policy is not None and policy not in _STOCK:
        raise WorkloadError(
            f"{path}: of a run under {policy}; a log is replayed as stock vLLM serves it: take the"
            " records of fcfs"
        )
    records = read_records(path)
    served = [
        Served(r.asked_s, r.prompt_tokens, r.output_tokens, r.first_token_s, r.last_token_s)
        for r in records
        if r.outcome is Outcome.FINISHED
        and r.first_token_s is not None
        and r.last_token_s is not None
        and r.prompt_tokens
    ]
    if not served:
        raise WorkloadError(f"{path}: none of its {len(records)} requests was served to the end")
    engine = _beside(path, "manifest.json", lambda found: dict(found["asked"]["engine"])) or {}
    limits = {
        name: engine[name] for name in (*LIMITS, "num_blocks") if type(engine.get(name)) is int
    }
    return log_of(path, served, len(records) - len(served), limits)


def _served(
    path: Path, result: Mapping[str, Any], lists: Mapping[str, Sequence[Any]]
) -> Iterator[Served]:
    """Those that did not fail, in the order of the file."""
    errors, latencies = result.get("errors"), result.get("latencies")
    for row, output in enumerate(lists["output_lens"]):
        failed = isinstance(errors, list) and bool(errors[row])
        if failed or (output == 0 and type(output) is int):
            continue
        start_s, ttft_s = (_seconds(path, lists, name, row) for name in ("start_times", "ttfts"))
        gaps = lists["itls"][row]
        if not isinstance(gaps, list):
            raise WorkloadError(f"{path}: itls[{row}] must be a list of seconds, got {shown(gaps)}")
        rest_s = math.fsum(_number(path, f"itls[{row}][{n}]", gap) for n, gap in enumerate(gaps))
        if not gaps and output != 1:
            if not isinstance(latencies, list):
                raise WorkloadError(
                    f"{path}: itls[{row}] is empty and there are no latencies: when its"
                    f" {shown(output)} tokens came is not known"
                )
            rest_s = _number(path, f"latencies[{row}]", latencies[row]) - ttft_s
        first_s = start_s + ttft_s
        yield Served(
            start_s,
            _tokens(path, lists, "input_lens", row),
            _tokens(path, lists, "output_lens", row),
            first_s,
            first_s + max(rest_s, 0.0),
        )


def _check_unit(path: Path, result: Mapping[str, Any], served: Sequence[Served]) -> None:
    """Its own mean, in milliseconds, tells whether the list is in seconds."""
    told_ms = result.get("mean_ttft_ms")
    if isinstance(told_ms, int | float) and told_ms > 0.0:
        mean_s = sum(row.first_s - row.sent_s for row in served) / len(served)
        if not 0.1 < mean_s * 1000.0 / told_ms < 10.0:
            raise WorkloadError(
                f"{path}: ttfts must be seconds: their mean is {mean_s:.4g}, and mean_ttft_ms is"
                f" {told_ms:.4g}"
            )


def _list(path: Path, result: Mapping[str, Any], name: str) -> list[Any]:
    value = result.get(name)
    if not isinstance(value, list):
        raise WorkloadError(
            f"{path}: no list {name}: save it with `vllm bench serve --save-result --save-detailed`"
        )
    return value


def _seconds(path: Path, lists: Mapping[str, Sequence[Any]], name: str, row: int) -> float:
    return _number(path, f"{name}[{row}]", lists[name][row])


def _number(path: Path, where: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0.0 <= value < _MOST_S:
        raise WorkloadError(f"{path}: {where} must be seconds >= 0, got {shown(value)}")
    return float(value)


def _tokens(path: Path, lists: Mapping[str, Sequence[Any]], name: str, row: int) -> int:
    value = lists[name][row]
    if type(value) is not int or not 1 <= value <= MAX_TOKENS:
        raise WorkloadError(
            f"{path}: {name}[{row}] must be a whole number of tokens >= 1, got {shown(value)}"
        )
    return value


def _beside(path: Path, name: str, take: Any) -> Any:
    """Something of a file of the comparison that the records belong to; None where there is none
    that can be read."""
    try:
        return take(json.loads((path.parent.parent / name).read_bytes()))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _policy(path: Path, summary: Mapping[str, Any]) -> str:
    runs = [r for r in summary["runs"] if Path(r["records_file"]).name == path.name]
    return str(runs[0]["policy"])
