"""`scorpio compare`: which checked request goes to which engine? The twin, or a live server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scorpio.cli_errors import UsageError
from scorpio.cli_parse import command_line, one_of

TWIN, LIVE = "twin", "live"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for, parsed; names are still to be checked."""

    trace: str
    rows: str | None
    mix: str
    rate_scales: tuple[float, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path


def compare_in_twin(
    wanted: Wanted, gpu: str | None, bound: bool, tune: bool, lengths: str, workers: int | None
) -> None:
    """Virtual time, vLLM's real scheduler. Raises UsageError and WorkloadError."""
    from scorpio.twin.compare import CompareSpec, run_compare
    from scorpio.twin.config import LengthHint
    from scorpio.twin.step_models import BUILT_IN
    from workloads.result_table import print_tables

    if gpu is None:
        raise UsageError(f"--gpu: name one of {', '.join(sorted(BUILT_IN))}, or a latency.json")
    try:
        hint = LengthHint.parse(lengths)
    except ValueError as error:
        raise UsageError(f"--lengths: {error}") from None
    spec = CompareSpec(
        gpu=gpu,
        trace=wanted.trace,
        mix=wanted.mix,
        rate_scales=wanted.rate_scales,
        policies=wanted.policies,
        seeds=wanted.seeds,
        out_dir=wanted.out,
        rows=wanted.rows,
        bound=bound,
        tune=tune,
        lengths=hint,
        workers=workers,
        command=command_line(),
    )
    spec.check()  # before the bar: a wrong name costs one line
    with _bar() as progress:
        comparison = run_compare(spec, progress)
    print_tables(comparison.points())
    print(wanted.out / "report.html")


def compare_on_server(wanted: Wanted, model: str, repeats: int, latency: Path | None) -> None:
    """Real time, one server of this machine. Raises UsageError and WorkloadError."""
    from scorpio.core.registry import policy_names
    from scorpio.live.ab import Load
    from scorpio.live.compare import compare_live
    from scorpio.live.profile_run import ensure_profile
    from scorpio.live.publish import publish
    from workloads.catalog import load_workload

    for policy in wanted.policies:
        one_of("policy", policy, policy_names())
    loads = [
        Load(
            load_workload(wanted.trace, wanted.rows, scale, seed, wanted.mix),
            wanted.trace,
            wanted.mix,
            scale,
            seed,
        )
        for scale in wanted.rate_scales
        for seed in wanted.seeds
    ]
    profile = latency if latency is not None else ensure_profile(model)
    comparison = compare_live(model, loads, wanted.policies, repeats, wanted.out, latency=profile)
    publish(comparison, command_line())


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; yields the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("twin"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("", total=None)

        def move(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        yield move
