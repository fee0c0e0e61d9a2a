"""What may be asked of `scorpio plan`? Its words, taken apart; the answer is of plan.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

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
from scorpio.cli.parse import listed, parse_rate, parse_seed, reading_of
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

T = TypeVar("T")
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


_NOT_WITH = (
    *("policy", "lengths", "draws", "what", "engine_option", "policy_option", "noise"),
    *("profile_bias", "retries", "give_up_s", "clients"),
)
_ONLY_WITH = ("client_tokens", "warm_up_s", "min_replicas")


def plan(
    context: typer.Context,
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
        _check_given(context, autoscale)
        reading = reading_of(time_unit, block_tokens, spread_tick_s, columns)
        if autoscale:
            from scorpio.cli.plan_autoscale import AutoscaleAsked, plan_autoscale

            one = (_one("rate scale", rate_scale, parse_rate), _one("seed", seed, parse_seed))
            source = (trace, rows, reading, client_tokens, mix, gpu, *one)
            bounds = (warm_up_s, min_replicas, max_replicas)
            plan_autoscale(AutoscaleAsked(*source, target, *bounds, out, workers))
            return
        load = wanted(trace, rows, mix, rate_scale, policy, seed, out, reading)
        words = (engine_option, policy_option, noise, profile_bias, retries, give_up_s, clients)
        options = twin_options(load.policies, *words)
        from scorpio.cli.plan import Asked, fleet_size_in_twin

        asked = Asked(target, max_replicas, draws, what)
        fleet_size_in_twin(load, gpu, lengths, workers, asked, options)


def _check_given(context: typer.Context, autoscale: bool) -> None:
    """No word of the command line goes unheard. Raises UsageError."""
    words = {str(param.name): max(param.opts, key=len) for param in context.command.params}
    unheard = [
        words[name]
        for name in (_NOT_WITH if autoscale else _ONLY_WITH)
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if unheard:
        raise UsageError(f"{', '.join(unheard)}: {'not' if autoscale else 'only'} with --autoscale")


def _one(what: str, words: str, parse: Callable[[str], T]) -> T:
    first, *others = listed(what, words, parse)
    if others:
        raise UsageError(f"--{what.replace(' ', '-')} {words}: one, with --autoscale")
    return first
