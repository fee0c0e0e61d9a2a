"""Replays against the golden server in virtual time: what their tests share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.workloads.golden_server import GoldenServer, Script
from tests.workloads.virtual_time import run_in_virtual_time
from workloads.replay.client import replay
from workloads.replay.request_body import PreparedRequest, RequestStyle, prepare
from workloads.request import WorkloadRequest
from workloads.results.records import RequestRecord

STYLE = RequestStyle(model="golden")


def request(index: int, send_s: float = 0.0, **changes: Any) -> WorkloadRequest:
    values: dict[str, Any] = {
        "index": index,
        "send_s": send_s,
        "prompt_tokens": 3,
        "output_tokens": 2,
        "hash_ids": (),
        "slo_class": "chat",
        "ttft_slo_s": 0.5,
        "tpot_slo_s": 0.05,
    }
    return WorkloadRequest(**(values | changes))


def ready(
    requests: Sequence[WorkloadRequest], style: RequestStyle = STYLE
) -> list[PreparedRequest]:
    prompt = "a b c" if style.mode == "chat" else [1, 2, 3]
    return [prepare(item, prompt, style) for item in requests]


def measure(
    server: GoldenServer,
    prepared: Sequence[PreparedRequest],
    tmp_path: Path,
    timeout_s: float = 60.0,
    retries: int = 0,
) -> list[RequestRecord]:
    """Replay against the golden server in virtual time."""
    socket = tmp_path / "golden.sock"

    async def main() -> list[RequestRecord]:
        async with server.on_unix_socket(socket) as url:
            connector = aiohttp.UnixConnector(path=str(socket), limit=0)
            return await replay(
                url, prepared, timeout_s=timeout_s, retries=retries, connector=connector
            )

    return run_in_virtual_time(main)


def one(
    script: Script, tmp_path: Path, style: RequestStyle = STYLE, **changes: Any
) -> RequestRecord:
    """The record of a single request answered by `script`."""
    server = GoldenServer({0: script})
    return measure(server, ready([request(0, **changes)], style), tmp_path)[0]
