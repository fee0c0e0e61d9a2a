"""How near is the twin to a real engine's log? `scorpio calibrate` and `scorpio fidelity`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from scorpio.cli.errors import UsageError
from scorpio.cli.parse import command_line, one_of
from scorpio.cli.table import plain_table

if TYPE_CHECKING:
    from scorpio.twin.fidelity.log_report import LogCase


def calibrate_to(
    log: Path, out: Path, base: str | None, free: str, share: float, blocks: int | None
) -> None:
    """Fit, examine, write, print. Raises UsageError and WorkloadError."""
    from scorpio.twin.fidelity.calibrate import Free
    from scorpio.twin.fidelity.log_report import built_in, calibrate_log
    from scorpio.twin.gpu.step_models import BUILT_IN

    if base is not None:
        one_of("base", base, BUILT_IN)
    one_of("--free", free, get_args(Free))
    _check_share(share)
    if blocks is not None and blocks < 2:
        raise UsageError(f"--kv-blocks must be >= 2, got {blocks}")
    found, cases = calibrate_log(log, out, built_in(base), free, share, blocks)  # type: ignore[arg-type]
    print(f"nearest built-in model: {found.base}; free: {found.free}")
    _print(cases)
    print(f"wrote {out}: scorpio compare --engine twin --gpu {out} ...")


def print_fidelity(log: Path, gpu: str, share: float, out: Path | None) -> None:
    """The fitted gap, tested on the rest, and the published ones. Raises WorkloadError."""
    from scorpio.files import write_atomic
    from scorpio.twin.fidelity.log_report import log_fidelity
    from scorpio.twin.gpu.file import gpu_model

    _check_share(share)
    cases = log_fidelity(log, gpu_model(gpu), share)
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
