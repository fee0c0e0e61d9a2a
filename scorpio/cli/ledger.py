"""What is done with the decision ledger? `explain` tells of one request, `record` writes all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorpio.cli.errors import UsageError, one_line_errors

if TYPE_CHECKING:
    from scorpio.ledger.compared import Choice

RunDir = Annotated[Path, typer.Option(help="--run-dir of the server, or a ledger file")]


def explain(
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="of a comparison or a server; or the id, with --run-dir"
        ),
    ],
    request: Annotated[
        str | None, typer.Argument(metavar="REQUEST", help="its number in a comparison; its id")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="DIR, said as an option: of a server, or a ledger file")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="of a comparison with several")] = None,
    rate_scale: Annotated[float | None, typer.Option(help="of a comparison with several")] = None,
    seed: Annotated[int | None, typer.Option(help="of a comparison with several")] = None,
) -> None:
    """Why did a request wait, why was it refused, why was it late? docs/ledger.md"""
    with one_line_errors():
        if (request is None) == (run_dir is None):
            raise UsageError(
                "say where and which: explain DIR REQUEST, or explain ID --run-dir DIR"
            )
        where = run_dir if run_dir is not None else Path(place)
        which = request if request is not None else place
        from scorpio.ledger.compared import Choice, is_comparison

        choice = Choice(policy, rate_scale, seed)
        if is_comparison(where):
            told = _decided(where, which, choice)
        elif choice != Choice():
            raise UsageError(
                f"--policy, --rate-scale and --seed choose a run of a comparison; {where} is none"
            )
        else:
            told = _served(where, which)
        print("\n\n".join("\n".join(lines) for lines in told))


def _decided(where: Path, which: str, choice: Choice) -> list[list[str]]:
    from scorpio.ledger.compared import decisions_in
    from scorpio.ledger.instead import explain_decision

    return [explain_decision(decision) for decision in decisions_in(where, which, choice)]


def _served(where: Path, which: str) -> list[list[str]]:
    from scorpio.ledger.files import read_ledger
    from scorpio.ledger.find import find
    from scorpio.ledger.sentences import explain as sentences

    book = read_ledger(where)
    found = [(sentences(entry), book.replica_of(entry)) for entry in find(book, which)]
    return [[*lines, f"Replica: {name}."] if name else lines for lines, name in found]


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
