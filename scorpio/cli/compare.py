"""`scorpio compare`: which checked request goes to which engine? The twin, or a live server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scorpio.cli.errors import UsageError
from scorpio.cli.parse import check_policies, command_line
from scorpio.cli.tuning import print_tuning
from scorpio.cli.twin_options import BY_DEFAULT, TwinOptions
from scorpio.cli.wanted import Wanted

if TYPE_CHECKING:
    from scorpio.live.ab import Load
    from scorpio.studies.compare_spec import CompareSpec
    from scorpio.studies.tuning_space import TuneSpec
    from workloads.results.summary import Comparison

TWIN, LIVE, BOTH = "twin", "live", "both"


@dataclass(frozen=True, slots=True)
class Extras:
    """What a comparison in the twin does beside its runs: the bound, tuning, a log of decisions."""

    bound: bool = False
    tune: TuneSpec | None = None
    log_decisions: bool = False

    def refuse_beside(self, engine: str) -> None:
        """A real engine is neither tuned nor asked why. Raises UsageError."""
        if self.log_decisions:
            raise UsageError(
                f"--log-decisions is of --engine twin, not {engine}: a server keeps a ledger;"
                " scorpio explain ID --run-dir DIR"
            )
        if self.tune is not None:
            raise UsageError(
                f"--tune is of --engine twin, not {engine}: tune there, then say"
                " --policy-option to the server"
            )


NO_EXTRAS = Extras()


def say_what_was_read(wanted: Wanted) -> None:
    """Units, span and dropped requests of a trace file, on stderr. Raises WorkloadError."""
    from scorpio.live.progress import say
    from workloads.named import trace_notice

    for line in trace_notice(wanted.trace, wanted.rows, wanted.seeds[0], wanted.reading):
        say(line)


def compare_in_twin(
    wanted: Wanted,
    gpu: str | None,
    lengths: str,
    workers: int | None,
    options: TwinOptions = BY_DEFAULT,
    extras: Extras = NO_EXTRAS,
) -> None:
    """Virtual time, vLLM's real scheduler. Raises UsageError, WorkloadError and NotAllAnswered."""
    from scorpio.studies.manifest import check_directory, manifest_of

    spec = twin_spec(wanted, gpu, lengths, workers, options, tell=False)
    spec = replace(spec, bound=extras.bound, tune=extras.tune, log_decisions=extras.log_decisions)
    spec.check()
    manifest = manifest_of(spec)
    check_directory(wanted.out, manifest)
    _announce(wanted)
    from scorpio.studies.compare import run_compare
    from workloads.report.result_table import print_tables

    with progress_bar("twin") as progress:
        comparison = run_compare(spec, progress, manifest)
    print_tables(comparison.points())
    if extras.tune is not None:
        print_tuning(wanted.out)
    print(wanted.out / "report.html")
    require_all(comparison)


def require_all(comparison: Comparison) -> None:
    """Raises NotAllAnswered when a run died."""
    from scorpio.live.progress import say
    from workloads.errors import NotAllAnswered

    for key, error in comparison.failures:
        say(f"FAILED {key.policy} at x{key.load.rate_scale:g}, seed {key.load.seed}: {error}")
    if comparison.failures:
        failed, made = len(comparison.failures), len(comparison.runs)
        raise NotAllAnswered(
            f"{failed} of {failed + made} runs failed; the others are written, and the same command"
            " tries those again"
        )


def twin_spec(
    wanted: Wanted,
    gpu: str | None,
    lengths: str,
    workers: int | None,
    options: TwinOptions = BY_DEFAULT,
    tell: bool = True,
) -> CompareSpec:
    """What the words mean to the twin. All is checked, and told, before vLLM is loaded.

    Raises UsageError and WorkloadError.
    """
    from scorpio.cli.early import check_twin
    from scorpio.studies.compare_spec import CompareSpec

    named, hint = check_twin(wanted, gpu, lengths)
    spec = CompareSpec(
        gpu=named,
        trace=wanted.trace,
        mix=wanted.mix,
        rate_scales=wanted.rate_scales,
        policies=wanted.policies,
        seeds=wanted.seeds,
        out_dir=wanted.out,
        rows=wanted.rows,
        reading=wanted.reading,
        lengths=hint,
        workers=workers,
        command=command_line(),
        **options.for_spec(),
    )
    if tell:
        spec.check()
        _announce(wanted)
    return spec


def _announce(wanted: Wanted) -> None:
    from scorpio.live.progress import say

    say_what_was_read(wanted)
    say("loading vLLM, whose scheduler decides in the twin: half a minute")


def live_loads(wanted: Wanted) -> list[Load]:
    """What a server is sent under each policy. Raises UsageError and WorkloadError."""
    from scorpio.live.ab import Load

    check_policies(wanted.policies)
    return [Load(key, key.requests()) for key in wanted.loads()]


def compare_on_server(
    wanted: Wanted,
    model: str,
    repeats: int,
    latency: Path | None,
    vllm_args: Sequence[str] | None = None,
) -> Comparison:
    """Real time, one server of this machine. Raises UsageError and WorkloadError."""
    from scorpio.live.compare import (
        ONE_MACHINE,
        compare_live,
        comparison_server,
        vocabulary_size,
    )
    from scorpio.live.profile.run import cached_profile, measured_on
    from scorpio.live.publish import publish

    loads = live_loads(wanted)
    say_what_was_read(wanted)
    args = ONE_MACHINE if vllm_args is None else vllm_args
    vocabulary_size(model)  # before the server: a model that cannot be read costs one line
    profile = latency if latency is not None else cached_profile(model)
    with comparison_server(model, wanted.out, args, profile) as server:
        if profile is None:
            measured_on(server, model)
        comparison = compare_live(server, model, loads, wanted.policies, repeats, wanted.out)
    publish(comparison, command_line())
    return comparison


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; yields the function that moves it. A killed command must unwind:
    its worker processes would outlive it otherwise."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from scorpio.live.host.signals import unwinding_signals

    bar = Progress(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    )
    with unwinding_signals(), bar as progress:
        task = progress.add_task("", total=None)

        def move(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        yield move
