"""Which published studies are there, and what do they say here? `scorpio study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scorpio.cli.early import check_out
from scorpio.cli.errors import one_line_errors
from scorpio.cli.options import OutDir
from scorpio.cli.parse import command_line, one_of


def study(
    names: Annotated[list[str] | None, typer.Argument(help="which; none lists them")] = None,
    out: OutDir = Path("out/study"),
    quick: Annotated[bool, typer.Option(help="few requests: shows only that it runs")] = False,
) -> None:
    """Run published studies: page, figures and numbers; goes on where it stopped."""
    with one_line_errors():
        from scorpio.studies.questions import QUESTIONS

        if not names:
            print("\n".join(f"{name:12} {question}" for name, question in QUESTIONS.items()))
            return
        wanted = {one_of("study", name, QUESTIONS) for name in names}
        check_out(out)
        _say("loading vLLM, whose scheduler decides in the twin: half a minute")
        from scorpio.studies.results import STUDIES, header_anywhere, run_studies, write_pages

        head = header_anywhere(command_line())
        kept = out / "runs" / (f"{head.commit}-quick" if quick else head.commit).replace(" ", "-")
        made = run_studies([each for each in STUDIES if each.name in wanted], kept, quick, _say)
        write_pages(made, head, out, None)
        for done, _ in made:
            print(out / f"{done.name}.md")


def _say(line: str) -> None:
    print(f"study: {line}", file=sys.stderr, flush=True)
