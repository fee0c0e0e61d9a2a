"""What is done with a trace? `scorpio replay` sends it, `scorpio convert` rewrites it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorpio.cli.errors import one_line_errors
from scorpio.cli.options import (
    BlockTokens,
    Columns,
    Mix,
    OutDir,
    Rows,
    SpreadTickS,
    TimeUnit,
    Trace,
)
from scorpio.cli.parse import command_line, reading_of, settled_mix
from workloads.retries import MOST_TRIES


def replay(
    url: Annotated[str, typer.Option(help="any OpenAI-compatible server")],
    trace: Trace,
    out: OutDir,
    mix: Mix = None,
    rows: Rows = None,
    rate_scale: Annotated[float, typer.Option(help="multiplies the arrival rate")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    time_unit: TimeUnit = None,
    block_tokens: BlockTokens = None,
    spread_tick_s: SpreadTickS = 0.0,
    columns: Columns = None,
    model: Annotated[str | None, typer.Option(help="as the server names it; its first")] = None,
    vocab_size: Annotated[
        int, typer.Option(min=200, help="prompts are token ids below this")
    ] = 1000,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="environment variable with an API key")
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_TRIES,
            metavar="N",
            help="a refused request comes back when told, N times",
        ),
    ] = 0,
) -> None:
    """Send a trace to a running server, open loop, and report what became of it."""
    with one_line_errors():
        from workloads.load import LoadKey
        from workloads.named import trace_notice

        reading = reading_of(time_unit, block_tokens, spread_tick_s, columns)
        load = LoadKey(trace, rows, settled_mix(trace, mix), rate_scale, seed, reading)
        requests = load.requests()
        from scorpio.live.progress import say
        from scorpio.live.publish import require_answers
        from scorpio.live.replay_command import ReplayPlan, replay_server

        for line in trace_notice(trace, rows, seed, reading):
            say(line)
        plan = ReplayPlan(load, requests, model, vocab_size, api_key_env, retries)
        require_answers(replay_server(url, plan, out, command_line()))


def convert(
    source: Annotated[
        Path, typer.Argument(help="a trace of any known kind, or a load tool's result")
    ],
    out: Annotated[Path, typer.Argument(help="JSONL to write: Mooncake's form")],
    time_unit: TimeUnit = None,
    block_tokens: BlockTokens = None,
    spread_tick_s: SpreadTickS = 0.0,
    columns: Columns = None,
    seed: Annotated[int, typer.Option(min=0, help="draws the spread")] = 0,
) -> None:
    """Write a trace in the one form that all commands and other load tools read: docs/traces.md."""
    with one_line_errors():
        from scorpio.twin.fidelity.log_trace import convert_result

        told: list[str | None] = [*convert_result(source, out)]
        if not told:
            from workloads.traces.convert import convert as write_canonical
            from workloads.traces.convert import lost_prefixes

            reading = reading_of(time_unit, block_tokens, spread_tick_s, columns)
            found = write_canonical(source, out, reading, seed)
            told = [*found.lines(str(source)), lost_prefixes(found), str(out)]
        for line in told:
            if line is not None:
                print(line)
