"""How does traffic become a length predictor? `scorpio collect`, then `scorpio train-length`."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from scorpio.cli.errors import UsageError


def collect_pairs(
    prompts: Path,
    out: Path,
    model: str,
    url: str | None,
    limit: int | None,
    max_tokens: int,
    temperatures: list[float],
) -> None:
    """Ask a model every prompt of the file. Raises UsageError before anything is started."""
    from predictors.length.dataset import DataError
    from predictors.length.prompts import read_prompts
    from scorpio.live.collect.answers import Asking
    from scorpio.live.collect.run import collect_model, collect_running

    if not all(math.isfinite(value) and value >= 0.0 for value in temperatures):
        raise UsageError("--temperature: must be finite and >= 0")
    try:
        chosen = read_prompts(prompts)
    except DataError as error:
        raise UsageError(str(error)) from None
    asking = Asking(model, max_tokens, tuple(temperatures))
    if url is not None:
        collect_running(url, chosen, limit, asking, out)
    else:
        collect_model(chosen, limit, asking, out)


def train_from_pairs(data: Path, out: Path, seed: int) -> None:
    """Train on a file of pairs; writes artefact and report. Raises UsageError."""
    try:
        from predictors.length.train import TrainingFailed, train_length
    except ImportError as error:
        raise UsageError(f"{error}: pip install 'scorpio-vllm[train]'") from None
    from predictors.length.artifact import LengthArtifactError
    from predictors.length.convert import ConversionFailed
    from predictors.length.dataset import DataError

    try:
        train_length(data, out, seed=seed, say=lambda line: typer.echo(line, err=True))
    except (DataError, TrainingFailed, ConversionFailed, LengthArtifactError, OSError) as error:
        raise UsageError(str(error)) from None
