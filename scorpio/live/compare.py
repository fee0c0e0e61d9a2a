"""Which policy is better on a real server of this machine? `compare --engine live`."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from predictors.latency.artifact import this_machine
from scorpio.live.ab import Load, plan_runs, run_ab
from scorpio.live.host.machine_load import warn_if_busy
from scorpio.live.host.server import LiveServer, live_server
from scorpio.live.progress import every_quarter_minute, say
from scorpio.models import resolve_model
from workloads.errors import WorkloadError
from workloads.results.summary import Comparison

# Two cores: an executor in the engine's own process saves ten seconds of start.
ONE_MACHINE = ("--distributed-executor-backend", "uni")


def vocabulary_size(model: str) -> int:
    """Vocabulary of a model that is on this machine. Raises WorkloadError."""
    path = Path(resolve_model(model)) / "config.json"
    try:
        return int(json.loads(path.read_text())["vocab_size"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise WorkloadError(f"{path}: cannot read vocab_size: {error}") from None


@contextlib.contextmanager
def comparison_server(
    model: str, out_dir: Path, vllm_args: Sequence[str] = ONE_MACHINE, latency: Path | None = None
) -> Iterator[LiveServer]:
    """A server for all runs of a comparison; its log is kept as DIR/server.log."""
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scorpio-live-") as work:
        warn_if_busy()
        say(f"starting vLLM with {model}")
        log, waiting = out_dir / "server.log", every_quarter_minute("starting")
        with live_server(
            model, Path(work), log, vllm_args, latency=latency, progress=waiting
        ) as server:
            say(f"healthy after {server.start_s:.0f} s")
            yield server


def compare_live(
    server: LiveServer,
    model: str,
    loads: Sequence[Load],
    policies: Sequence[str],
    repeats: int,
    out_dir: Path,
) -> Comparison:
    """Replay every load under every policy.

    Nothing is reported here: the caller writes the summary and the pages.
    """
    comparison = Comparison(out_dir)
    runs = plan_runs(loads, policies, repeats)
    run_ab(server, runs, comparison, this_machine().cpu, vocabulary_size(model), say)
    return comparison
