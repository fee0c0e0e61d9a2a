"""What may be asked of `scorpio plan`? Its words, taken apart; the answer is of plan.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorpio.cli.errors import UsageError, one_line_errors
from scorpio.cli.options import (
    BlockTokens,
    Columns,
    Lengths,
    Mix,
    OutDir,
    Rows,
    SpreadTickS,
    TimeUnit,
    Trace,
)
from scorpio.cli.parse import listed, parse_rate, reading_of
from scorpio.cli.twin_options import (
    Clients,
    EngineOption,
    GiveUpS,
    Noise,
    PolicyOption,
    ProfileBias,
    Retries,
    twin_options,
)
from scorpio.cli.wanted import wanted

Autoscale = Annotated[
    bool,
    typer.Option("--autoscale", help="replicas that come and go: over the day, and their cost"),
]
ClientTokens = Annotated[
    Path | None, typer.Option(help="--autoscale: JSON with token lengths of a rates file's clients")
]
WarmUpS = Annotated[
    float, typer.Option(help="--autoscale: from the order of a replica to its first request")
]
MinReplicas = Annotated[int, typer.Option(help="--autoscale: never fewer")]


def plan(
    trace: Trace,
    gpu: Annotated[str, typer.Option(help="a GPU name or a latency.json")],
    out: OutDir = Path("out/plan"),
    target: Annotated[
        str, typer.Option(help="good ones in %: of all requests, or as chat=95,agent=90")
    ] = "95",
    policy: Annotated[
        str, typer.Option(metavar="NAME[,NAME...]", help="policies to plan for")
    ] = "fcfs,fcfs-tuned,scorpio",
    rows: Rows = None,
    mix: Mix = None,
    rate_scale: Annotated[str, typer.Option(metavar="X", help="arrival rates")] = "1",
    seed: Annotated[str, typer.Option(metavar="N[,N...]", help="seeds")] = "0",
    time_unit: TimeUnit = None,
    block_tokens: BlockTokens = None,
    spread_tick_s: SpreadTickS = 0.0,
    columns: Columns = None,
    lengths: Lengths = "0.6",
    max_replicas: Annotated[int, typer.Option(help="where to stop looking")] = 64,
    draws: Annotated[
        int, typer.Option(metavar="N", help="times that traffic is tried: the trace, then others")
    ] = 5,
    what: Annotated[
        str | None, typer.Option(metavar="tpot.CLASS=MS,...", help="and with this SLO instead?")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes")] = None,
    engine_option: EngineOption = None,
    policy_option: PolicyOption = None,
    noise: Noise = None,
    profile_bias: ProfileBias = 1.0,
    retries: Retries = 0,
    give_up_s: GiveUpS = None,
    clients: Clients = 0,
    autoscale: Autoscale = False,
    client_tokens: ClientTokens = None,
    warm_up_s: WarmUpS = 100.0,
    min_replicas: MinReplicas = 1,
) -> None:
    """How many replicas does this load need? The smallest sufficient fleet per policy."""
    with one_line_errors():
        if autoscale:
            from scorpio.cli.plan_autoscale import AutoscaleAsked, plan_autoscale

            scale, *others = listed("rate scale", rate_scale, parse_rate)
            if others:
                raise UsageError(f"--rate-scale {rate_scale}: one, with --autoscale")
            bounds = (min_replicas, max_replicas)
            source = (trace, client_tokens, mix, gpu, scale)
            plan_autoscale(AutoscaleAsked(*source, target, warm_up_s, *bounds, out, workers))
            return
        reading = reading_of(time_unit, block_tokens, spread_tick_s, columns)
        load = wanted(trace, rows, mix, rate_scale, policy, seed, out, reading)
        words = (engine_option, policy_option, noise, profile_bias, retries, give_up_s, clients)
        options = twin_options(load.policies, *words)
        from scorpio.cli.plan import Asked, fleet_size_in_twin

        asked = Asked(target, max_replicas, draws, what)
        fleet_size_in_twin(load, gpu, lengths, workers, asked, options)
