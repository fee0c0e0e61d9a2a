"""Which server answers the prompts of `scorpio collect`? Its own, or one that runs."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from predictors.length.prompts import Prompt
from scorpio.live.collect.answers import Asking, Collected, collect
from scorpio.live.host.server import live_server
from scorpio.live.progress import every_quarter_minute, say, share_done
from workloads.replay.run import served_model

SEQUENCES = 32  # in flight at once


def collect_running(
    url: str, prompts: Sequence[Prompt], limit: int | None, asking: Asking, out: Path
) -> Collected:
    """Collect from a server that runs; the rows name the model as it does."""
    asking = replace(asking, model=asyncio.run(served_model(url)))
    progress = share_done("collect")
    done = asyncio.run(
        collect(url, prompts, asking, out, limit=limit, concurrency=SEQUENCES, progress=progress)
    )
    say(f"wrote {out}: {done.rows} rows, {done.resumed} found from an earlier try")
    if done.refused:
        say(f"the server refused {done.refused} prompts: they are left out")
    return done


def collect_model(
    prompts: Sequence[Prompt], limit: int | None, asking: Asking, out: Path
) -> Collected:
    """Start a server for the model, collect, stop it. The policy is stock: none is refused."""
    with tempfile.TemporaryDirectory(prefix="scorpio-collect-") as work:
        say(f"starting vLLM with {asking.model}")
        waiting = every_quarter_minute("starting")
        log = Path(work) / "server.log"
        with live_server(asking.model, Path(work), log, progress=waiting) as server:
            return collect_running(server.url, prompts, limit, asking, out)
