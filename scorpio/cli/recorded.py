"""What can be asked of a ledger's traffic? `shadow-report`: what would another policy have done?
`what-if`: what if the traffic or the engine were another? docs/shadow.md"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorpio.cli.early import check_out
from scorpio.cli.errors import UsageError, one_line_errors
from scorpio.cli.ledger import RunDir
from scorpio.cli.options import OutDir
from scorpio.cli.parse import command_line, one_of, option_values, parse_rate
from scorpio.cli.table import plain_table
from scorpio.cli.twin_options import EngineOption, engine_options

if TYPE_CHECKING:
    from scorpio.studies.recorded.changes import Change
    from scorpio.studies.recorded.traffic import Recorded
    from workloads.request import WorkloadRequest

Last = Annotated[int, typer.Option(min=1, metavar="N", help="the newest N requests of the ledger")]
Seeds = Annotated[int, typer.Option(min=1, metavar="N", help="runs of the twin, with other noise")]
Workers = Annotated[int | None, typer.Option(min=1, help="processes")]
LAST, SEEDS = 3000, 3


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which part of a ledger, and what is to be taken for what it does not say."""

    run_dir: Path
    last: int
    gpu: str | None
    engine_option: Sequence[str] | None


def shadow_report(
    run_dir: RunDir,
    policy: Annotated[
        str | None, typer.Option(help="another one than the ledger's shadow", show_default=False)
    ] = None,
    policy_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="an option of --policy")
    ] = None,
    last: Last = LAST,
    seeds: Seeds = SEEDS,
    gpu: Annotated[
        str | None, typer.Option(help="of the server, if not as recorded: name, file, fitted")
    ] = None,
    engine_option: EngineOption = None,
    workers: Workers = None,
    out: OutDir = Path("out/shadow"),
) -> None:
    """What would another policy have done with a server's own traffic? A page for people."""
    with one_line_errors():
        options = option_values(policy_option or [])
        check_out(out)
        traffic = _traffic(_Asked(run_dir, last, gpu, engine_option), "--gpu")
        shadow, options = _shadow(traffic, policy, options)
        _announce(traffic)
        from scorpio.cli.compare import progress_bar
        from scorpio.studies.recorded.shadow import shadow_report as report
        from scorpio.studies.recorded.shadow_page import class_table, headlines, write_shadow

        with progress_bar("twin") as progress:
            found = report(traffic, shadow, options, seeds, workers, progress)
        page = write_shadow(found, out, command_line())
        _print("promises kept, %", *class_table(found))
        _say(headlines(found), page)


def what_if(
    run_dir: Annotated[
        Path | None,
        typer.Option(help="--run-dir of the server, or a ledger file", show_default=False),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(help="other traffic than the ledger's: catalog name or file")
    ] = None,
    rate: Annotated[str, typer.Option(metavar="X", help="so many times the requests")] = "1",
    tighten: Annotated[
        str | None, typer.Option(metavar="tpot.CLASS=MS,...", help="other SLOs, in ms")
    ] = None,
    add_class: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:rps=R,ttft=MS,tpot=MS,like=CLASS", help="a class more, so many a second"
        ),
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="another GPU: name or a latency.json")] = None,
    policy: Annotated[str | None, typer.Option(help="another policy")] = None,
    engine_option: EngineOption = None,
    recorded_gpu: Annotated[
        str | None, typer.Option(help="of the server, if not as recorded: name, file, fitted")
    ] = None,
    last: Last = LAST,
    seeds: Seeds = SEEDS,
    workers: Workers = None,
    out: OutDir = Path("out/what-if"),
) -> None:
    """What if the traffic or the engine were another? And how wrong was the twin on what came?"""
    with one_line_errors():
        if run_dir is None:
            raise UsageError(
                "--run-dir: name the ledger of the server that is asked about: the twin is"
                " calibrated from it, and says how wrong it was on what it holds"
            )
        check_out(out)
        change = _change(rate, tighten, add_class or [], gpu, policy, engine_option)
        traffic = _traffic(_Asked(run_dir, last, recorded_gpu, None), "--recorded-gpu")
        asked = None if trace is None else _requests(trace)
        change.engine(traffic.engine)
        change.requests(traffic.requests if asked is None else asked)
        _announce(traffic)
        from scorpio.cli.compare import progress_bar
        from scorpio.studies.recorded.what_if import what_if as answer
        from scorpio.studies.recorded.what_if_page import (
            answer_table,
            error_table,
            headlines,
            write_what_if,
        )

        with progress_bar("twin") as progress:
            found = answer(traffic, asked, change, seeds, workers, progress)
        page = write_what_if(found, out, command_line())
        _print("promises kept, %", *answer_table(found))
        _print("how wrong the twin was on what happened, %", *error_table(found))
        _say(headlines(found), page)


def _traffic(asked: _Asked, option: str) -> Recorded:
    """All that can be wrong with it is told here, before vLLM is loaded. option: names its GPU."""
    from scorpio.ledger.files import read_ledger
    from scorpio.studies.recorded.traffic import recorded_traffic
    from workloads.errors import WorkloadError

    flags = engine_options(asked.engine_option or ())
    book = read_ledger(asked.run_dir)
    try:
        return recorded_traffic(book, asked.last, asked.gpu, flags)
    except WorkloadError as error:
        raise UsageError(f"{option}: {error}") from None


def _shadow(
    traffic: Recorded, policy: str | None, options: dict[str, float]
) -> tuple[str, dict[str, float]]:
    from scorpio.studies.recorded.traffic import shadow_of
    from scorpio.twin.systems import check_system, system_names

    name, given = shadow_of(traffic) if policy is None else (policy, options)
    if policy is None and options:
        raise UsageError("--policy-option: only with --policy")
    if not name:
        raise UsageError(
            f"{traffic.place}: none watched (serve with --shadow NAME): name a --policy, one of"
            f" {', '.join(system_names())}"
        )
    one_of("policy", name, system_names())
    try:
        check_system(name, given)
    except ValueError as error:
        raise UsageError(f"--policy-option: {error}") from None
    if (name, dict(given)) == (traffic.policy, dict(traffic.options)):
        raise UsageError(f"--policy: '{name}' is the policy that served; name another one")
    return name, dict(given)


def _change(
    rate: str,
    tighten: str | None,
    add_class: Iterable[str],
    gpu: str | None,
    policy: str | None,
    engine_option: Sequence[str] | None,
) -> Change:
    from scorpio.studies.recorded.changes import Change
    from scorpio.twin.gpu.file import gpu_model
    from scorpio.twin.systems import system_names
    from workloads.added_class import parse_class
    from workloads.slo_changes import parse_changes

    try:
        factor = parse_rate(rate)
    except ValueError:
        raise UsageError(f"--rate: '{rate}' must be a number > 0") from None
    if policy is not None:
        one_of("policy", policy, system_names())
    return Change(
        rate=factor,
        tighten=parse_changes(tighten, "tighten"),
        added=tuple(parse_class(text) for text in add_class),
        gpu=None if gpu is None else gpu_model(gpu),
        policy=policy,
        engine_options=engine_options(engine_option or ()),
    )


def _requests(trace: str) -> list[WorkloadRequest]:
    from scorpio.cli.parse import settled_mix
    from workloads.named import load_workload

    found = load_workload(trace, mix=settled_mix(trace, None))
    return [replace(request, index=index) for index, request in enumerate(found)]


def _announce(traffic: Recorded) -> None:
    from scorpio.live.progress import say

    say(f"{traffic.span}: {len(traffic.requests):,} requests under {traffic.policy}")
    if traffic.gpu is None:
        say("no latency profile in the ledger: fitting one to its times, which takes minutes")
    say("loading vLLM, whose scheduler decides in the twin: half a minute")


def _print(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]
) -> None:
    from rich.console import Console

    table = plain_table(title, list(left), [head for head in heads if head not in left])
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


def _say(lines: Iterable[str], page: Path) -> None:
    for line in lines:
        print(line)
    print(page)
