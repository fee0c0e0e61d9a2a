"""What can be told in a second, before vLLM is loaded? Wrong names, GPUs, lengths and folders."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scorpio.cli.errors import UsageError

if TYPE_CHECKING:
    from scorpio.cli.wanted import Wanted
    from scorpio.twin.length_hint import LengthHint


def check_twin(wanted: Wanted, gpu: str | None, lengths: str) -> tuple[str, LengthHint]:
    """Names, lengths and the place of results; loads are checked by `CompareSpec`. Returns the GPU,
    and what policies know of lengths.

    Raises UsageError and WorkloadError, each one line.
    """
    from scorpio.twin.gpu.file import gpu_model
    from scorpio.twin.gpu.step_models import BUILT_IN
    from scorpio.twin.length_hint import LengthHint
    from scorpio.twin.systems import check_system

    for name in wanted.policies:
        try:
            check_system(name, {})
        except ValueError as error:
            raise UsageError(str(error)) from None
    if gpu is None:
        raise UsageError(f"--gpu: name one of {', '.join(sorted(BUILT_IN))}, or a latency.json")
    gpu_model(gpu)
    try:
        hint = LengthHint.parse(lengths)
    except ValueError as error:
        raise UsageError(f"--lengths: {error}") from None
    check_out(wanted.out)
    return gpu, hint


def check_out(out: Path) -> None:
    """Can results be written there? Nothing is made. Raises UsageError."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f"--out: {there} is a file, not a directory")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UsageError(f"--out: {there} cannot be written: {error.strerror or error}") from None
