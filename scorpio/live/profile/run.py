"""`scorpio profile` and the demo's first act: a profile of this machine's engine, as a file."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from predictors.latency.artifact import (
    ProfileFile,
    cached_profile_path,
    read_profile,
    this_machine,
    write_profile,
)
from scorpio.live.host.machine_load import warn_if_busy
from scorpio.live.host.server import live_server
from scorpio.live.profile.record import DESIGN_BUDGET_S, EXAM_S, profile_server
from scorpio.live.progress import every_quarter_minute, say, share_done
from scorpio.models.cache import cache_dir


def profile_running(
    url: str, run_dir: Path, model: str, out: Path, budget_s: float, exam_s: float
) -> ProfileFile:
    """Profile a server that already runs and write `out`."""
    measured = asyncio.run(
        profile_server(url, run_dir, model, budget_s, exam_s, share_done("profile"))
    )
    write_profile(out, measured)
    for line in describe(measured):
        say(line)
    say(f"wrote {out}")
    return measured


def profile_model(
    model: str,
    out: Path,
    vllm_args: Sequence[str] = (),
    budget_s: float = DESIGN_BUDGET_S,
    exam_s: float = EXAM_S,
) -> ProfileFile:
    """Start a server for `model`, profile it, write `out`, stop it."""
    with tempfile.TemporaryDirectory(prefix="scorpio-profile-") as work:
        warn_if_busy()
        say(f"starting vLLM with {model} to measure it")
        waiting = every_quarter_minute("starting")
        log = Path(work) / "server.log"
        with live_server(model, Path(work), log, vllm_args, progress=waiting) as server:
            say(f"healthy after {server.start_s:.0f} s")
            return profile_running(server.url, server.run_dir, model, out, budget_s, exam_s)


def default_profile_path(model: str) -> Path:
    """Where this machine's profile of `model` is cached."""
    return cached_profile_path(cache_dir(), model, this_machine())


def ensure_profile(model: str, vllm_args: Sequence[str] = (), fresh: bool = False) -> Path:
    """The cached profile of this machine, measured first when there is none."""
    path = default_profile_path(model)
    if not fresh and path.exists():
        measured = read_profile(path)
        say(f"latency profile of {measured.created}: {path}")
        return path
    profile_model(model, path, vllm_args)
    return path


def describe(measured: ProfileFile) -> list[str]:
    """The fit in a few lines."""
    lines = []
    for title, table in (("held out", measured.fit), ("exam", measured.fit.get("exam"))):
        if isinstance(table, Mapping):
            mixed, paper = table.get("mixed_form"), table.get("paper_form")
            kinds = ("all", "decode", "prefill", "mixed")
            lines.append(
                f"step time error, {title} (MAPE, paper's form in brackets): "
                + ", ".join(f"{kind} {_mape(mixed, kind)} ({_mape(paper, kind)})" for kind in kinds)
            )
            if isinstance(mixed, Mapping) and isinstance(stats := mixed.get("all"), Mapping):
                r2 = stats["r2"]
                lines.append(
                    f"  {stats['n']} steps, R2 {'-' if r2 is None else format(r2, '.3f')},"
                    f" max error {stats['max_ape']:.0%}"
                )
            if isinstance(repeats := table.get("repeats"), Mapping):
                lines.append(
                    f"  the same step again: {repeats['mape']:.1%} off ({repeats['n']} steps);"
                    " about the best that a model of step sizes can do here"
                )
    return lines


def _mape(form: Any, kind: str) -> str:
    stats = form.get(kind) if isinstance(form, Mapping) else None
    return "-" if stats is None else f"{stats['mape']:.1%}"
