"""Which options do several commands share, and what does `--help` say of them?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="smollm2, tiny, a directory or a Hub id")]
OutDir = Annotated[Path, typer.Option("--out", help="directory for the results")]
Trace = Annotated[str, typer.Option(help="catalog name or trace file")]
Mix = Annotated[
    str | None,
    typer.Option(help="SLOs: a mix (six), `trace` = as its rows state, FILE.toml = their classes"),
]
Rows = Annotated[str | None, typer.Option(metavar="A:B", help="a window of the trace")]
TimeUnit = Annotated[
    str | None, typer.Option(metavar="s|ms|us|ns", help="of a trace file; as its kind says")
]
BlockTokens = Annotated[
    int | None, typer.Option(metavar="N", help="tokens to a hash id; as its kind says")
]
Lengths = Annotated[
    str,
    typer.Option(
        help="twin: what policies know of lengths: none, oracle, trained, histogram, constant,"
        " adversarial, or a log error"
    ),
]
Columns = Annotated[
    str | None,
    typer.Option("--map", metavar="NAME=COLUMN,...", help="names of a trace file's own columns"),
]
SpreadTickS = Annotated[
    float, typer.Option(metavar="S", help="undo a clock that ticks every S seconds")
]
