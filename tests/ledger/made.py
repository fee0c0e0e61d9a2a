"""Entries of a ledger as tests need them: one that was served in time, with what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scorpio import channel
from scorpio.ledger.entry import Entry

SERVED: dict[str, Any] = {
    "id": "chatcmpl-aa11-0123abcd",
    "engine": 0,
    "arrived_unix_s": 1_800_000_000.25,
    "prompt_tokens": 600,
    "max_tokens": 100,
    "predicted_tokens": 52.4,
    "slo_class": "chat",
    "slo_ttft_ms": 500.0,
    "slo_tpot_ms": 50.0,
    "slo_e2el_ms": None,
    "on_miss": "reject",
    "tenant": "f6ace85dd5b8",
    "waiting": 0,
    "waiting_tokens": 0,
    "running": 3,
    "due_before": 0,
    "due_before_tokens": 0,
    "policy": "scorpio",
    "version": "0.1.0",
    "verdict": "admitted",
    "reason": "",
    "forecast_ttft_ms": 200.0,
    "forecast_tpot_ms": 40.0,
    "attainable_ttft_ms": None,
    "retry_after_ms": None,
    "started_ms": 0.2,
    "starts": 0,
    "steps": 0,
    "step_tokens": 0,
    "cached_tokens": 0,
    "first_token_ms": 180.0,
    "ended_ms": 2180.0,
    "output_tokens": 51,
    "mean_gap_ms": 40.0,
    "worst_gap_ms": 60.0,
    "preemptions": 0,
    "outcome": "finished",
    "finish_reason": "stop",
    "missed": (),
    "blocks": (17, 18),
}
REFUSED: dict[str, Any] = {
    "id": "cmpl-bb22-0-4567cdef",
    "verdict": "refused",
    "reason": "ttft_infeasible",
    "outcome": "rejected",
    "finish_reason": "abort",
    "waiting": 12,
    "waiting_tokens": 9000,
    "due_before": 10,
    "due_before_tokens": 8400,
    "forecast_ttft_ms": None,
    "forecast_tpot_ms": None,
    "attainable_ttft_ms": 900.0,
    "retry_after_ms": 2400.0,
    "started_ms": None,
    "first_token_ms": None,
    "ended_ms": 20.0,
    "output_tokens": 0,
    "mean_gap_ms": None,
    "worst_gap_ms": None,
}


def entry(**what: Any) -> Entry:
    """Served in time, but for what is said."""
    return Entry(**(SERVED | what))


def refused(**what: Any) -> Entry:
    """Refused for its TTFT, but for what is said."""
    return Entry(**(SERVED | REFUSED | what))


def write(run_dir: Path, *entries: Entry, name: str = channel.LEDGER) -> Path:
    """A ledger file of these."""
    path = run_dir / name
    path.write_text("".join(e.to_line() for e in entries))
    return path
