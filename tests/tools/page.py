"""What does the page of the tools say? Each run as it was, and the numbers side by side."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from scorpio.models.resolve import resolve_model
from scorpio.studies.results import Header
from tests.engine_server import running, write_inputs
from tests.tools.run import Ledger, Numbers, Run
from tests.tools.scenes import SCENES
from tests.tools.stage import Stage

MODEL = "smollm2"
_FLAGS = ("--max-model-len", "2048", "--max-num-seqs", "16")
_AGREES = 0.02
_COLUMNS = (
    "run", "served: tool / ours / engine", "refused: tool / engine", "TTFT ms: tool", "ours",
    "engine", "TPOT ms: tool", "ours", "engine",
)  # fmt: skip


def run_tools(venvs: Path, only: str, say: Callable[[str], None]) -> list[Run]:
    """All of them, one after the other, on one server."""
    with tempfile.TemporaryDirectory(prefix="scorpio-tools-") as folder:
        directory = Path(folder)
        slo, latency = write_inputs(directory)
        command = [
            *(sys.executable, "-m", "scorpio", "serve", MODEL, "--run-dir", str(directory / "run")),
            *("--slo-config", str(slo), "--latency", str(latency), *_FLAGS),
        ]
        model, found = Path(resolve_model(MODEL)), list[Run]()
        with running(directory, command) as server:
            stage = Stage(server, Ledger(server), directory, venvs, model)
            for scene in SCENES:
                if only in ("", scene.__name__):
                    say(scene.__name__)
                    found += scene(stage)
        return found


def markdown(runs: Sequence[Run], header: Header) -> str:
    """The page."""
    lines = [
        "# Do the tools that people have work with it, and do their numbers agree with ours?",
        "",
        str(header),
        "",
        f"On the real server, model `{MODEL}`, policy `scorpio`. How to run each, and what to mind:"
        " [tools](../tools.md).",
        "",
        "## The same requests, seen three times",
        "",
        "Means over the requests that were served. `tool`: what it says; `ours`: computed by"
        " `scorpio calibrate`'s reader from the file that the tool wrote; `engine`: the ledger, so"
        " without HTTP, tokenising and the client.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{' --- |' * len(_COLUMNS)}",
    ]
    compared = [run for run in runs if run.told is not None and run.engine is not None]
    lines += [_row(run) for run in compared]
    if compared:
        lines += ["", *_verdict(compared)]
    for run in runs:
        lines += ["", f"## {run.title}", "", "```", run.command, "```", "", "```", *run.said, "```"]
    return "\n".join(lines) + "\n"


def _row(run: Run) -> str:
    told, ours, engine = run.told, run.ours, run.engine
    assert told is not None
    assert engine is not None
    served = f"{told.served} / {'-' if ours is None else ours.served} / {engine.served}"
    cells = [run.title, served, f"{told.refused} / {engine.refused}"]
    for name in ("ttft_ms", "tpot_ms"):
        cells += [_shown(numbers, name) for numbers in (told, ours, engine)]
    return f"| {' | '.join(cells)} |"


def _shown(numbers: Numbers | None, name: str) -> str:
    value = 0.0 if numbers is None else getattr(numbers, name)
    return f"{value:.1f}" if value else "-"


def _verdict(runs: Sequence[Run]) -> list[str]:
    """How far apart: the tool and our reading of its file; the tool and the engine."""
    lines = []
    for name, word in (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT")):
        for what in ("ours", "engine"):
            off = {
                run.title: getattr(run.told, name) - getattr(other, name)
                for run in runs
                if (other := getattr(run, what)) is not None and getattr(other, name)
            }
            told = {run.title: getattr(run.told, name) for run in runs}
            shares = {title: abs(ms) / told[title] for title, ms in off.items()}
            if not shares:
                continue
            worst = max(shares, key=lambda title: shares[title])
            within = "within" if shares[worst] <= _AGREES else "NOT within"
            lines.append(
                f"- {word}, tool and {what}: {within} 2 %; at most {shares[worst]:.1%}"
                f" ({off[worst]:+.1f} ms, {worst})."
            )
    return lines
