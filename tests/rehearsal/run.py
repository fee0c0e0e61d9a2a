"""How is a rehearsal run? Two servers, one after the other; the page says what was seen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scorpio.studies.results import Header
from tests.engine_server import EngineServer, running, write_inputs
from tests.rehearsal.scene import Seen, rules
from tests.rehearsal.scenes import FIRST, SECOND, STALL_S

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


def rehearse(directory: Path, say: Callable[[str], None]) -> list[Seen]:
    """All scenes. Raises as tests do when one does not show what it should."""
    found = []
    untimed = "--additional-config.scorpio.most_overhead=0"
    tight = ("--additional-config.scorpio.most_overhead=0.0001", "--canary", "0.5")
    for name, options, scenes in (("first", (untimed,), FIRST), ("second", tight, SECOND)):
        with rehearsing(directory / name, *options) as server:
            for scene in scenes:
                say(scene.__name__)
                found.append(scene(server))
    return found


def markdown(found: Sequence[Seen], header: Header) -> str:
    """The page."""
    lines = [
        "# What does each act and alert of operations look like?",
        "",
        str(header),
        "",
        "On the real server, model `tiny`. What an alert says of one scrape is evaluated on the"
        " server's own /metrics; those over minutes or hours need a Prometheus.",
    ]
    for one in found:
        lines += ["", f"## {one.title}", "", f"Done: {one.done}.", "", "```", *one.seen, "```"]
        if one.alert:
            link = f"[{one.alert}](../operate.md#{one.alert.lower()})"
            lines += ["", f"{link}: `{rules()[one.alert]}`; active: {one.fired}."]
    return "\n".join(lines) + "\n"
