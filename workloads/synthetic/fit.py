"""Which parameters make a synthetic workload look like a trace, and how far off is it then?

Command: python -m workloads.synthetic.fit TRACE [--spread-tick-s 3] [--knots 40]
Prints the sections of a catalog file, with the fit error of each as comments above them:
KS distance of lengths and gaps (0 same, 1 disjoint), and what a renewal process cannot show.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.synthetic.arrivals import gamma
from workloads.synthetic.lengths import LengthModel, sample_pairs
from workloads.traces.reading import Reading
from workloads.traces.row import TraceRow
from workloads.traces.trace import read_trace

FloatArray = NDArray[np.float64]
MODEL_SAMPLES = 200_000  # the KS distance of a sample this size is good to about 0.003
TARGET_KS = 0.01
ATOM_MASS = 0.004  # rarer values are points of a smooth curve
TAIL_P = (0.0, 0.01, 0.5, 0.95, 0.99, 0.999, 1.0)  # the tail fills the KV cache: always knots
GRID_TILES = 10
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted models of one trace."""

    prompt: LengthModel
    output: LengthModel
    rank_grid: tuple[tuple[int, ...], ...]
    rate_rps: float
    cv: float


def ks_distance(a: NDArray[np.number], b: NDArray[np.number]) -> float:
    """Two-sample Kolmogorov-Smirnov distance: the largest gap between the two empirical CDFs."""
    at = np.union1d(a, b)
    cdf_a = np.searchsorted(np.sort(a), at, side="right") / len(a)
    cdf_b = np.searchsorted(np.sort(b), at, side="right") / len(b)
    return float(np.abs(cdf_a - cdf_b).max())


def fit_knots(lengths: NDArray[np.int64], most: int) -> LengthModel:
    """Quantile knots: the tail, then where the CDFs differ most, until KS <= 0.01 or `most`."""
    ordered = np.sort(lengths)
    u = (np.arange(len(ordered)) + 0.5) / len(ordered)
    values, counts = np.unique(ordered, return_counts=True)
    upper = np.cumsum(counts) / len(ordered)
    knots = {(p, float(np.quantile(ordered, p))) for p in TAIL_P}
    while True:
        p, tokens = zip(*sorted(knots), strict=True)
        model = LengthModel(p, tokens)
        made = np.sort(model.quantile(u))
        error = np.abs(np.searchsorted(made, values, side="right") / len(made) - upper)
        worst, known = int(error.argmax()), len(knots)
        if error[worst] <= TARGET_KS or known >= most:
            return model
        knots |= _around(upper, counts / len(ordered), worst, float(values[worst]))
        if len(knots) == known:  # the rest is rounding to whole tokens
            return model


def _around(upper: FloatArray, mass: FloatArray, at: int, value: float) -> set[tuple[float, float]]:
    """Both ends of an atom; the middle of a value that is rare enough to be a point."""
    low, high = float(upper[at] - mass[at]), float(upper[at])
    if mass[at] < ATOM_MASS:
        return {(0.5 * (low + high), value)}
    return {(low, value), (high, value)}


def fit_rank_grid(
    prompt: NDArray[np.int64], output: NDArray[np.int64], tiles: int = GRID_TILES
) -> NDArray[np.int64]:
    """Joint counts of rank tiles, in parts per 10,000 of each row; ties are broken at random."""
    rng = np.random.default_rng(0)
    tile = [
        np.lexsort((rng.random(len(column)), column)).argsort() * tiles // len(column)
        for column in (prompt, output)
    ]
    counts = np.zeros((tiles, tiles))
    np.add.at(counts, (tile[0], tile[1]), 1.0)
    parts = np.rint(10_000 * counts / counts.sum(axis=1, keepdims=True))
    return np.asarray(parts, dtype=np.int64)


def fit(rows: Sequence[TraceRow], most_knots: int) -> Fit:
    """Fit lengths, the tie between them, and a Gamma renewal process."""
    prompt, output, arrival_s = columns(rows)
    gaps_s = np.diff(arrival_s)
    if len(rows) < 10 * GRID_TILES or gaps_s.sum() == 0:
        raise WorkloadError(f"a fit needs {10 * GRID_TILES} requests at different times")
    return Fit(
        fit_knots(prompt, most_knots),
        fit_knots(output, most_knots),
        tuple(tuple(int(x) for x in row) for row in fit_rank_grid(prompt, output)),
        float(1.0 / gaps_s.mean()),
        round(float(gaps_s.std() / gaps_s.mean()), 6),
    )


def errors(fitted: Fit, rows: Sequence[TraceRow]) -> dict[str, float]:
    """How far the fitted model is from the trace, as printed above the parameters."""
    prompt, output, arrival_s = columns(rows)
    made_prompt, made_output = sample_pairs(
        fitted.prompt, fitted.output, fitted.rank_grid, MODEL_SAMPLES, seed=0
    )
    found = {
        "ks_prompt": ks_distance(prompt, made_prompt),
        "ks_output": ks_distance(output, made_output),
        "ks_output_per_prompt": ks_distance(output / prompt, made_output / made_prompt),
        "mean_prompt_ratio": float(made_prompt.mean() / prompt.mean()),
        "mean_output_ratio": float(made_output.mean() / output.mean()),
        "prefix_hit_ratio_trace": prefix_hit_ratio(rows),
    }
    if not fitted.cv:  # a log of lengths without real times
        return found
    made_s = gamma(fitted.rate_rps, fitted.cv, seed=0, n=MODEL_SAMPLES)
    return found | {
        "ks_gaps": ks_distance(np.diff(arrival_s), np.diff(made_s)),
        "minute_dispersion_trace": dispersion(arrival_s),
        "minute_dispersion_model": dispersion(made_s),
    }


def prefix_hit_ratio(rows: Sequence[TraceRow]) -> float:
    """Share of prompt blocks that an unlimited prefix cache would have known already."""
    known: set[int] = set()
    hits = blocks = 0
    for row in rows:
        hits += sum(1 for _ in takewhile(known.__contains__, row.hash_ids))
        blocks += len(row.hash_ids)
        known.update(row.hash_ids)
    return hits / blocks


def dispersion(arrival_s: FloatArray) -> float:
    """Variance over mean of requests per minute: 1 for Poisson, more for slow swings."""
    counts = np.bincount(((arrival_s - arrival_s[0]) // MINUTE_S).astype(np.int64))[:-1]
    return float(counts.var() / counts.mean()) if len(counts) > 1 else float("nan")


def columns(
    rows: Sequence[TraceRow],
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """(prompt tokens, output tokens, arrival times) of a trace."""
    return (
        np.array([row.prompt_tokens for row in rows]),
        np.array([row.output_tokens for row in rows]),
        np.array([row.arrival_s for row in rows]),
    )


def to_toml(fitted: Fit, fit_errors: dict[str, float], requests: int) -> str:
    """Sections of a catalog file."""
    lines = [f"# {name} = {value:.3f}" for name, value in fit_errors.items()]
    lines += [f"requests = {requests}", "rank_grid = ["]
    lines += [f"  [{', '.join(map(str, row))}]," for row in fitted.rank_grid]
    lines += ["]", "", "[arrivals]", f'process = "{"gamma" if fitted.cv else "constant"}"']
    lines += [f"rate_rps = {fitted.rate_rps:.4f}"] + [f"cv = {fitted.cv:.3f}"] * (fitted.cv > 0)
    for name, model in (("prompt_tokens", fitted.prompt), ("output_tokens", fitted.output)):
        lines += ["", f"[{name}]", *_wrapped("p", [f"{p:.4f}" for p in model.p])]
        lines += _wrapped("tokens", [f"{tokens:.0f}" for tokens in model.tokens])
    return "\n".join(lines)


def _wrapped(name: str, items: list[str]) -> list[str]:
    rows = [", ".join(items[i : i + 11]) for i in range(0, len(items), 11)]
    return [f"{name} = [", *(f"  {row}," for row in rows), "]"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; one clear line and exit code 2 when the trace cannot be used."""
    parser = argparse.ArgumentParser(prog="workloads.synthetic.fit", description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--rows")
    parser.add_argument("--spread-tick-s", type=float, default=0.0)
    parser.add_argument("--knots", type=int, default=40)
    options = parser.parse_args(arguments)
    try:
        reading = Reading(spread_tick_s=options.spread_tick_s)
        rows = read_trace(options.trace, options.rows, reading)
        fitted = fit(rows, options.knots)
        print(to_toml(fitted, errors(fitted, rows), len(rows)))
    except (WorkloadError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
