"""How near is the twin to a real engine's log? `scorpio calibrate` and `scorpio fidelity`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from scorpio.cli.errors import UsageError
from scorpio.cli.parse import command_line, one_of
from scorpio.cli.table import plain_table

if TYPE_CHECKING:
    from scorpio.twin.fidelity.side_by_side import LogCase


def calibrate_to(
    logs: Sequence[Path],
    out: Path,
    base: str | None,
    free: str,
    share: float,
    blocks: int | None,
    meta: Path | None,
) -> None:
    """Fit, examine, write, print. Raises UsageError and WorkloadError."""
    from scorpio.twin.gpu.scaling import Free
    from scorpio.twin.gpu.step_models import BUILT_IN

    if base is not None:
        one_of("base", base, BUILT_IN)
    one_of("--free", free, get_args(Free))
    _check_share(share)
    if blocks is not None and blocks < 2:
        raise UsageError(f"--kv-blocks must be >= 2, got {blocks}")
    from scorpio.twin.fidelity.logs import is_scrape

    if is_scrape(logs[0]):
        if meta is not None:
            raise UsageError("--meta: is for a log; scrapes of /metrics tell their KV pool")
        if base is None:
            raise UsageError(
                "--base: a scrape of /metrics tells one speed, not which GPU it is of; name the"
                f" nearest: {', '.join(sorted(BUILT_IN))}"
            )
        _by_scrapes(logs, out, base, free, share, blocks)
    elif len(logs) > 1:
        raise UsageError(f"{logs[1]}: one log at a time; several files are for scrapes of /metrics")
    else:
        _by_log(logs[0], out, base, free, share, blocks, meta)
    print(f"wrote {out}: scorpio compare --engine twin --gpu {out} ...")


def _by_log(
    log: Path,
    out: Path,
    base: str | None,
    free: str,
    share: float,
    blocks: int | None,
    meta: Path | None,
) -> None:
    from scorpio.cli.compare import progress_bar
    from scorpio.twin.fidelity.logs import read_log

    read = read_log(log, meta)  # what is wrong with it is told before vLLM is loaded
    from scorpio.twin.fidelity.log_report import built_in, calibrate_log

    with progress_bar("calibrate") as tell:
        found, cases = calibrate_log(
            read, out, built_in(base), free, share, blocks, tell  # type: ignore[arg-type]
        )  # fmt: skip
    print(f"nearest built-in model: {found.base}; free: {found.free}; its steps: {found.factors}")
    _print(cases)


def _by_scrapes(
    paths: Sequence[Path], out: Path, base: str, free: str, share: float, blocks: int | None
) -> None:
    from scorpio.twin.fidelity.scrape_fit import DEFAULT_BUDGET, calibrate_scrapes
    from scorpio.twin.gpu.step_models import BUILT_IN

    found, cases = calibrate_scrapes(
        paths, out, BUILT_IN[base], free, share, blocks  # type: ignore[arg-type]
    )  # fmt: skip
    print(f"built-in model: {found.base}; free: {found.free}, x{found.factor:.3f}")
    print(
        "means between scrapes alone: how memory and compute compare, TTFT and the tail are the"
        f" base's own; steps are taken for {DEFAULT_BUDGET} tokens at most"
    )
    _print(cases)


def print_fidelity(log: Path, gpu: str, share: float, out: Path | None) -> None:
    """The fitted gap, tested on the rest, and the published ones. What the log does not say of its
    engine is as the file of the GPU says. Raises WorkloadError."""
    from scorpio.cli.compare import progress_bar
    from scorpio.files import write_atomic
    from scorpio.twin.fidelity.logs import read_log
    from scorpio.twin.gpu.file import file_limits, gpu_model

    _check_share(share)
    model, read = gpu_model(gpu), read_log(log)
    read = replace(read, limits={**file_limits(gpu), **read.limits})
    from scorpio.twin.fidelity.log_report import log_fidelity

    with progress_bar("fidelity") as tell:
        cases = log_fidelity(read, model, share, tell)
    _print(cases)
    if out is not None:
        content = {"command": command_line(), "cases": [case.to_dict() for case in cases]}
        write_atomic(out / "fidelity.json", json.dumps(content, indent=1) + "\n")


def _check_share(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise UsageError(f"--fitted-share must be in (0, 1], got {share:g}")


def _print(cases: Sequence[LogCase]) -> None:
    """Times in ms with relative errors, attainment in % with errors in points."""
    from rich.console import Console

    for case in cases:
        table = plain_table(case.title, [""], ["real", "twin", "error", "real at SLO -1 % .. +1 %"])
        for row in case.rows:
            if row.around is None:
                cells = [f"{row.real:.1f}", f"{row.twin:.1f}", f"{100 * row.error:+.1f} %", ""]
            else:
                tighter, looser = row.around
                cells = [
                    f"{100 * row.real:.1f} %",
                    f"{100 * row.twin:.1f} %",
                    f"{100 * row.error:+.1f} pt",
                    f"{100 * tighter:.1f} .. {100 * looser:.1f} %",
                ]
            table.add_row(row.metric, *cells)
        Console().print(table)
        print(f"largest error {100 * case.worst:.1f}\n")
