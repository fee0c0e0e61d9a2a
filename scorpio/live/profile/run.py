"""Where does the profile of this machine's engine come from? `scorpio profile`, or its cache."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from predictors.latency.access import OPEN, Access
from predictors.latency.artifact import (
    ProfileFile,
    cached_profile_path,
    read_profile,
    this_machine,
    write_profile,
)
from scorpio import channel
from scorpio.live.host.machine_load import warn_if_busy
from scorpio.live.host.server import LiveServer, live_server
from scorpio.live.profile.record import (
    DESIGN_BUDGET_S,
    EXAM_S,
    NotRecordingError,
    profile_server,
)
from scorpio.live.progress import every_quarter_minute, say, share_done
from scorpio.models.cache import cache_dir


def profile_running(
    url: str,
    run_dir: Path,
    model: str,
    out: Path,
    budget_s: float = DESIGN_BUDGET_S,
    exam_s: float = EXAM_S,
    apply: bool = False,
    access: Access = OPEN,
) -> ProfileFile:
    """Profile a server that already runs and write `out`.

    apply: the server goes by it from its next request on.
    """
    shown = share_done("profile")
    measured = asyncio.run(
        profile_server(url, run_dir, model, budget_s, exam_s, shown, access=access)
    )
    write_profile(out, measured)
    for line in describe(measured):
        say(line)
    say(f"wrote {out}")
    if apply:
        control = channel.read_control(run_dir)
        if control is None:  # recording its steps has left one
            raise NotRecordingError(f"{run_dir}/{channel.CONTROL} is gone")
        latency = measured.profile.to_dict()
        channel.write_control(run_dir, control.policy, control.options, latency=latency)
        say("the server goes by it from its next request on")
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


def cached_profile(model: str) -> Path | None:
    """This machine's profile of `model`, if it has one."""
    path = default_profile_path(model)
    if not path.exists():
        return None
    say(f"latency profile of {read_profile(path).created}: {path}")
    return path


def measured_on(server: LiveServer, model: str) -> Path:
    """This machine's profile of `model`, measured on a server that has none and in force on it."""
    path = default_profile_path(model)
    profile_running(server.url, server.run_dir, model, path, apply=True)
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
