"""Which versions? `scorpio version`, and `scorpio --version` for those who type that."""

from __future__ import annotations

from typing import Annotated

import typer


def version() -> None:
    """Versions of this package, of vLLM and of Python."""
    from scorpio.versions import versions

    print(versions())


def _asked(value: bool) -> None:
    if value:
        version()
        raise typer.Exit


def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_asked, is_eager=True, help="as `scorpio version`")
    ] = False,
) -> None:
    """SLO-aware scheduling for stock vLLM."""
