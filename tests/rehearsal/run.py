"""How is a rehearsal run? Two servers, one after the other; the page says what was seen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scorpio.models.cache import models_dir
from scorpio.studies.results import Header
from tests.engine_server import MODEL, EngineServer, running, write_inputs
from tests.rehearsal.coming_back import coming_back
from tests.rehearsal.prometheus import dashboard, watching
from tests.rehearsal.rollout import (
    auto_profile,
    door,
    drain,
    new_file,
    new_policy,
    profile_again,
    scorpio,
)
from tests.rehearsal.scene import Seen, rules
from tests.rehearsal.scenes import FIRST, SECOND, STALL_S

KEY = "sk-of-a-client"
# As `python -m scorpio`; the tiny engine is measured in less time.
_START = """
from scorpio.cli.app import main
from scorpio.server.launch import auto_profile

if __name__ == "__main__":
    auto_profile.BUDGET_S, auto_profile.EXAM_S, auto_profile.IDLE_S = 8.0, 3.0, 1.0
    main()
"""
_LONG, _SHORT = 200, 48  # answers, in tokens
_FLAGS = ("--max-model-len", "512", "--max-num-seqs", "8", "--distributed-executor-backend", "uni")


@contextlib.contextmanager
def rehearsing(directory: Path, *more: str) -> Iterator[EngineServer]:
    """A server of the tiny model with classes, and one of them with a target."""
    directory.mkdir(parents=True, exist_ok=True)
    slo, latency = write_inputs(directory)
    slo.write_text(
        slo.read_text().replace("[classes.hopeless]\n", "[classes.hopeless]\ntarget = 0.99\n")
    )
    command = [
        *(sys.executable, "-m", "scorpio", "serve", "tiny", "--policy", "scorpio-paper"),
        *("--slo-config", str(slo), "--latency", str(latency), "--run-dir", str(directory / "run")),
        *(f"--additional-config.scorpio.stall_s={STALL_S}", *_FLAGS, *more),
    ]
    with running(directory, command) as server:
        yield server


@contextlib.contextmanager
def unmeasured(directory: Path) -> Iterator[EngineServer]:
    """Another one: no latency profile, clients need a key, planning may cost next to nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    slo, _ = write_inputs(directory)
    start = directory / "start.py"
    start.write_text(_START)
    command = [
        *(sys.executable, str(start), "serve", "tiny", "--policy", "scorpio-paper"),
        *("--slo-config", str(slo), "--run-dir", str(directory / "run"), *_FLAGS),
        *("--profile", "auto", "--api-key", KEY, "--root-path", "/models", "--canary", "0.5"),
        "--additional-config.scorpio.most_overhead=0.0001",
        "--additional-config.scorpio.breaker_quiet_s=15",
    ]
    cache = directory / "cache"  # with no profile in it
    cache.mkdir(exist_ok=True)
    (cache / "models").symlink_to(models_dir())
    with running(directory, command, {"SCORPIO_CACHE": str(cache)}) as server:
        server.headers = {**server.headers, "authorization": f"Bearer {KEY}"}
        yield server


@contextlib.contextmanager
def measured(directory: Path, model: str) -> Iterator[EngineServer]:
    """A server of this model whose latency profile was just taken."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "scorpio", "serve", model, "--policy", "scorpio", *_FLAGS]
    with running(directory, [*command, "--run-dir", str(directory / "run")]) as server:
        server.model = model
        where = ("--url", server.url, "--run-dir", str(server.run_dir))
        out = str(directory / "latency.json")
        scorpio("profile", "--model", model, *where, "--out", out, "--apply")
        yield server


def rehearse(
    directory: Path, say: Callable[[str], None], load_s: float, model: str = MODEL
) -> list[Seen]:
    """All scenes. Raises as tests do when one does not show what it should. load_s: how long those
    last that need a load. model: of the scene that asks how long things take; with the tiny one
    that is mostly the time of what is no engine."""
    found = []

    def act(server: EngineServer, scenes: Sequence[Callable[[EngineServer], Seen]]) -> None:
        for scene in scenes:
            say(scene.__name__)
            found.append(scene(server))

    untimed = "--additional-config.scorpio.most_overhead=0"
    first, second = directory / "first", directory / "second"
    with rehearsing(first, untimed) as server:
        with watching(directory / "prometheus", server) as prometheus:
            act(server, (*FIRST, new_policy, new_file, door))
            say("dashboard")
            found.append(dashboard(server, prometheus))
        act(server, (profile_again,))
        if model == MODEL:
            found.append(coming_back(server, load_s, _LONG))
        act(server, (drain,))
    if model != MODEL:
        say(f"coming_back, {model}")
        with measured(directory / "measured", model) as server:
            found.append(coming_back(server, load_s, _SHORT))
    with unmeasured(second) as server:
        act(server, (auto_profile, *SECOND))
    return found


def markdown(found: Sequence[Seen], header: Header) -> str:
    """The page."""
    lines = [
        "# What does each act and alert of operations look like?",
        "",
        str(header),
        "",
        "On the real server, model `tiny`. What an alert says of one scrape is evaluated on the"
        " server's own /metrics. Those over minutes or hours: `promtool test rules"
        " deploy/compose/alerts_test.yml`.",
    ]
    for one in found:
        lines += ["", f"## {one.title}", "", f"Done: {one.done}.", "", "```", *one.seen, "```"]
        if one.alert:
            link = f"[{one.alert}](../operate.md#{one.alert.lower()})"
            lines += ["", f"{link}: `{rules()[one.alert]}`; active: {one.fired}."]
    return "\n".join(lines) + "\n"
