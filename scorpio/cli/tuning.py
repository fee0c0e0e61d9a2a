"""What may be said of tuning? `--tune`, `--tune-rows`, `--tune-trials`; and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorpio.cli.errors import UsageError
from scorpio.cli.parse import listed

if TYPE_CHECKING:
    from scorpio.studies.tuning_space import TuneSpec

Tune = Annotated[
    str | None,
    typer.Option(metavar="NAME[,NAME...]", help="twin: policies to tune, each with as many trials"),
]
TuneRows = Annotated[
    str | None, typer.Option(metavar="A:B", help="part of the trace to tune on; beside --rows")
]
TuneTrials = Annotated[
    int | None, typer.Option(metavar="N", help="settings tried for each of them; 30")
]


def tune_spec(tune: str | None, rows: str | None, trials: int | None) -> TuneSpec | None:
    """None: nothing is tuned. Raises UsageError."""
    if tune is None:
        if rows is not None or trials is not None:
            raise UsageError("--tune-rows and --tune-trials belong to --tune NAME[,NAME...]")
        return None
    from scorpio.studies.tuning_space import TRIALS, TuneSpec

    return TuneSpec(tuple(listed("tune", tune, str)), rows, TRIALS if trials is None else trials)


def print_tuning(out: Path) -> None:
    """What DIR/tuning.json says, in sentences."""
    from scorpio.studies.tuning import told

    path = out / "tuning.json"
    for line in told(json.loads(path.read_text())):
        print(line)
    print(path)
