"""How fast is this machine's engine? `scorpio profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorpio.cli.errors import UsageError, one_line_errors
from scorpio.cli.options import Model


def profile(
    model: Model = "smollm2",
    out: Annotated[Path, typer.Option(help="file to write")] = Path("latency.json"),
    url: Annotated[str | None, typer.Option(help="measure a server that already runs")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="its run directory")] = None,
    budget_s: Annotated[float, typer.Option(min=5.0, help="seconds for designed points")] = 75.0,
    exam_s: Annotated[float, typer.Option(min=3.0, help="seconds of random load")] = 15.0,
    apply: Annotated[
        bool, typer.Option("--apply", help="the running server goes by it from now on")
    ] = False,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="environment variable with an API key")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="the server's own certificate (PEM), for https")
    ] = None,
) -> None:
    """Measure this machine's engine; writes the coefficients that policies predict with."""
    with one_line_errors():
        if (url is None) != (run_dir is None):
            raise UsageError("--url and --run-dir go together: a running server and its directory")
        if url is None and (api_key_env or certificate):
            raise UsageError("--api-key-env and --certificate are for a running server: --url")
        from predictors.latency.access import Access
        from scorpio.live.profile.run import profile_model, profile_running

        if apply and url is None:
            raise UsageError("--apply is for a running server: --url and --run-dir name it")
        if url is not None and run_dir is not None:
            from scorpio.live.replay_command import authorization

            key = {} if api_key_env is None else authorization(api_key_env)
            access = Access(key, certificate)
            profile_running(url, run_dir, model, out, budget_s, exam_s, apply, access)
        else:
            profile_model(model, out, budget_s=budget_s, exam_s=exam_s)
