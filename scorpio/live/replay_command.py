"""What became of a trace on an OpenAI-compatible server? `scorpio replay`."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from scorpio.files import write_atomic
from scorpio.live.host.priority import raised_priority
from scorpio.live.publish import publish
from workloads.errors import WorkloadError
from workloads.load import LoadKey
from workloads.replay.client import server_root
from workloads.replay.prompts import prompt_token_ids
from workloads.replay.request_body import RequestStyle, prepare
from workloads.replay.run import replay_to_file, served_model
from workloads.request import WorkloadRequest
from workloads.results.bench_json import bench_result
from workloads.results.run_summary import EngineStats, RunKey
from workloads.results.summary import Comparison

# Ids that every vocabulary of a real model holds; prompts are told apart all the same.
COMMON_VOCABULARY = 1000
_STATUS_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What to send, and under which name the result is kept. retries: how often a refused request
    is sent again, at most."""

    load: LoadKey
    requests: Sequence[WorkloadRequest]
    model: str | None = None
    vocab_size: int = COMMON_VOCABULARY
    api_key_variable: str | None = None
    retries: int = 0


def replay_server(url: str, plan: ReplayPlan, out_dir: Path, command: str) -> Comparison:
    """Replay and write summary.json, report.html, PNGs, records, and bench.json (`vllm bench`).

    Raises:
        ServerUnreachable: no server there; nothing is written.
        WorkloadError: the variable of the key holds none.
    """
    headers = {} if plan.api_key_variable is None else authorization(plan.api_key_variable)
    model = plan.model or asyncio.run(served_model(url, headers))
    style = RequestStyle(model=model, headers=headers)
    prepared = [
        prepare(r, prompt_token_ids(r, plan.vocab_size, plan.load.seed), style)
        for r in plan.requests
    ]
    key = RunKey(policy=policy_of(url), engine="live", gpu=model, load=plan.load)
    partial = out_dir / "running.jsonl"
    started_s = time.monotonic()
    with raised_priority():
        records = replay_to_file(url, prepared, partial, retries=plan.retries)
    comparison = Comparison(out_dir)
    wall_s = time.monotonic() - started_s
    summary = comparison.add_run(key, records, EngineStats(wall_s=wall_s))
    partial.unlink()
    date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    result = bench_result(summary, records, model_id=model, date=date, detailed=True)
    write_atomic(out_dir / "bench.json", json.dumps(result, allow_nan=False) + "\n")
    publish(comparison, command)
    return comparison


def authorization(variable: str) -> dict[str, str]:
    """The header for the API key in an environment variable.

    Raises:
        WorkloadError: unset, empty, or not one word; the key itself is never shown.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise WorkloadError(f"--api-key-env: the environment variable '{variable}' holds no key")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise WorkloadError(f"--api-key-env: '{variable}' holds no key that HTTP can carry")
    return {"Authorization": f"Bearer {key}"}


def policy_of(url: str) -> str:
    """The policy that the server says it runs; `server` when it is none of ours."""
    try:
        address = f"{server_root(url)}/scorpio/status"
        with urllib.request.urlopen(address, timeout=_STATUS_TIMEOUT_S) as answer:
            policy = json.load(answer)["policy"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError, RecursionError):
        return "server"
    return policy if isinstance(policy, str) and policy else "server"
