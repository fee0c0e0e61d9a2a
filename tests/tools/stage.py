"""Where do the tools run? One server with a real model, its ledger, and one trace for all."""

from __future__ import annotations

import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scorpio.ledger.entry import Entry
from tests.engine_server import EngineServer
from tests.tools.run import Ledger, Numbers, Run, call, engine, ours
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace

ROOT = Path(__file__).parents[2]
COUNT, REFUSED, RATE = 20, 4, 0.6
PROMPT, ANSWER = 300, 24
SLO = {"slo_ttft_ms": 60_000, "slo_tpot_ms": 60_000}
HOPELESS = {"slo_ttft_ms": 1}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the tools run. model: the folder of the served model."""

    server: EngineServer
    ledger: Ledger
    folder: Path
    venvs: Path
    model: Path

    def run(self, title: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
        """Its command is told as one would type it."""
        call(command, env or {}, self.folder / "said.log")
        return Run(title, self.typed([Path(command[0]).name, *command[1:]]))

    def typed(self, command: Sequence[str]) -> str:
        """A command as one would type it elsewhere."""
        text = shlex.join(command)
        for real, shown in (
            (self.server.url, "http://localhost:8000"), (str(self.model), "MODEL_FOLDER"),
            (f"{self.folder}/", ""),
        ):  # fmt: skip
            text = text.replace(real, shown)
        return text

    def finish(
        self, run: Run, told: Numbers | None, file: Path | None, entries: Sequence[Entry]
    ) -> Run:
        """With our own numbers, and the engine's of these requests."""
        run.told, run.ours = told, ours(file) if file is not None else None
        run.engine = engine(entries)
        return run


def trace(stage: Stage, hopeless: int) -> Path:
    """A Mooncake trace with SLOs in `extra`; the last rows ask for what cannot be."""
    draw, at_s, rows = random.Random(5), 0.0, []
    for number in range(COUNT + hopeless):
        xargs: dict[str, object] = dict(SLO if number < COUNT else HOPELESS)
        prompt, answer = draw.randint(PROMPT // 2, PROMPT * 3 // 2), draw.randint(16, 32)
        rows.append(TraceRow(at_s, prompt, answer, (number,), xargs, ""))
        at_s += draw.expovariate(RATE)
    path = stage.folder / "trace.jsonl"
    write_trace(path, rows)
    return path
