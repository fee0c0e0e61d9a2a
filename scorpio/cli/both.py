"""Do this machine's server and its twin tell the same story? `scorpio compare --engine both`.

Both engines get the same requests, policies, latency profile and flags. The profile is measured on
a server with these very flags, and the twin's steps take the time that it says.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from scorpio.cli.compare import compare_on_server, live_loads, progress_bar, require_all, twin_spec
from scorpio.cli.errors import UsageError
from scorpio.cli.parse import command_line
from scorpio.cli.table import plain_table
from scorpio.cli.wanted import Wanted
from workloads.results.agreement import TOLERANCE, Agreement, agreement

# Said to both engines, so that no default of either decides.
MAX_NUM_SEQS, TOKEN_BUDGET = 64, 1024
FLAGS = ("--max-num-seqs", str(MAX_NUM_SEQS), "--max-num-batched-tokens", str(TOKEN_BUDGET),
         "--no-async-scheduling", "--no-enable-prefix-caching")  # fmt: skip


def compare_on_both(
    wanted: Wanted, model: str, repeats: int, latency: Path | None, workers: int | None
) -> None:
    """DIR/live, DIR/twin and DIR/fidelity.json. Raises UsageError and WorkloadError."""
    from predictors.latency.artifact import read_profile
    from scorpio.engine.virtual.spec import EngineSpec
    from scorpio.files import write_atomic
    from scorpio.live.compare import ONE_MACHINE
    from scorpio.live.profile.run import profile_model
    from scorpio.live.publish import require_answers
    from scorpio.studies.compare import run_compare
    from scorpio.studies.manifest import FILE
    from scorpio.twin.gpu.file import gpu_model

    if (wanted.out / "twin" / FILE).exists():
        raise UsageError(f"--out: {wanted.out} has results: name another directory, or empty it")
    live_loads(wanted)  # before measuring: a wrong name costs one line
    words = replace(wanted, out=wanted.out / "twin")
    args = (*ONE_MACHINE, *FLAGS)
    if latency is None:
        latency = wanted.out / "latency.json"
        profile_model(model, latency, args)
    engine = EngineSpec(
        max_num_seqs=MAX_NUM_SEQS,
        max_num_batched_tokens=TOKEN_BUDGET,
        num_blocks=gpu_model(str(latency)).kv_blocks,
        pipeline_depth=1,
    )
    spec = replace(
        twin_spec(words, str(latency), "none", workers, tell=False),
        engine=engine,
        profile=read_profile(latency).profile,
        exact_max_tokens=True,  # the client asks for exact lengths
    )
    spec.check()
    live = compare_on_server(
        replace(wanted, out=wanted.out / "live"), model, repeats, latency, args
    )
    with progress_bar("twin") as progress:
        twin = run_compare(spec, progress)
    try:
        found = agreement(live.points(), twin.points())
    except ValueError as error:
        raise UsageError(f"nothing to compare: {error}") from None
    content = {"command": command_line(), "profile": str(latency), **found.to_dict()}
    write_atomic(wanted.out / "fidelity.json", json.dumps(content, indent=1) + "\n")
    _print(found)
    require_all(twin)
    print(wanted.out / "fidelity.json")
    require_answers(live)


def _print(found: Agreement) -> None:
    from rich.console import Console

    table = plain_table(
        "attainment, %", ["policy"], ["load", "live", "95 % interval", "twin", "points"]
    )
    for row in found.rows:
        table.add_row(
            row.policy,
            f"x{row.rate_scale:g}",
            f"{100 * row.live.mean:.1f}",
            f"{100 * row.live.low:.1f}-{100 * row.live.high:.1f}",
            f"{100 * row.twin.mean:.1f}",
            f"{100 * row.error:+.1f}",
        )
    Console().print(table)
    print(f"largest difference {100 * found.worst:.1f} points (goal: {100 * TOLERANCE:g})")
    for load, better, other in found.swapped:
        print(f"order differs at x{load:g}: live puts {better} above {other}, the twin below")
    if not found.swapped:
        print("same order of policies")
