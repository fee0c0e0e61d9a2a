"""What is done with the decision ledger? `explain` tells of one request, `record` writes all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorpio.cli.errors import UsageError, one_line_errors

RunDir = Annotated[Path, typer.Option(help="--run-dir of the server, or a ledger file")]


def explain(
    request_id: Annotated[str, typer.Argument(help="of an answer or a 429; its beginning will do")],
    run_dir: RunDir,
) -> None:
    """Why did a request wait, why was it refused, why was it late? docs/ledger.md"""
    with one_line_errors():
        from scorpio.ledger.files import read_ledger
        from scorpio.ledger.find import find
        from scorpio.ledger.sentences import explain as sentences

        for number, entry in enumerate(find(read_ledger(run_dir), request_id)):
            print("\n".join(["", *sentences(entry)] if number else sentences(entry)))


def record(
    run_dir: RunDir,
    out: Annotated[Path, typer.Option(help="JSONL to write: a trace")] = Path("mine.jsonl"),
) -> None:
    """Write what a server was asked as a trace, for `compare`, `plan` and `replay`: what if?"""
    with one_line_errors():
        from scorpio.ledger.as_trace import recorded
        from scorpio.ledger.files import read_ledger
        from workloads.errors import TraceError
        from workloads.traces.trace import read_trace, write_trace

        book = read_ledger(run_dir)
        found = recorded(book.entries)
        if not found.rows:
            raise UsageError(f"{run_dir}: none of its requests had a prompt")
        try:
            write_trace(out, found.rows)
        except OSError as error:
            raise UsageError(f"--out {out}: {error.strerror or error}") from None
        print(f"{book.span}: {len(book.entries):,} requests")
        for line in found.lines():
            print(line)
        try:
            read_trace(out)
        except TraceError:  # few or very many requests a second look like another unit
            print("say --time-unit ms with it: by its rate its times could be of another unit")
        print(out)
