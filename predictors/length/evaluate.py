"""How good are these predictions? Rank, pinball, coverage and error figures of one set of requests.

Command: python -m predictors.length.evaluate DIR DATA.jsonl
gives a model's figures on data it was not trained on (domain shift), what the fallback ladder makes
of them when it sees one answer after another, and the time a request takes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, spearmanr

from predictors.length.artifact import LengthArtifactError, load_model
from predictors.length.dataset import DataError, Pairs, read_pairs
from predictors.length.ladder import LengthLadder, Source
from predictors.length.model import LengthModel
from predictors.length.quantiles import LEVELS, LengthDistribution
from predictors.length.request import LengthRequest
from scorpio.core.arrays import FloatArray

BUCKETS = 5
_MEDIAN = LEVELS.index(0.5)


def ranks(predicted: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Kendall's tau-b and Spearman's rho; 0 for a constant prediction, which orders nothing."""
    if np.ptp(predicted) == 0.0 or np.ptp(truth) == 0.0:
        return {"kendall": 0.0, "spearman": 0.0}
    return {
        "kendall": float(kendalltau(predicted, truth).statistic),
        "spearman": float(spearmanr(predicted, truth).statistic),
    }


def pinball(predicted_z: FloatArray, truth_z: FloatArray) -> dict[str, float]:
    """Pinball loss of each quantile, on log(1 + tokens)."""
    miss = truth_z[:, None] - predicted_z
    levels = np.array(LEVELS)
    losses = np.maximum(levels * miss, (levels - 1.0) * miss).mean(axis=0)
    return {f"q{level:g}": float(loss) for level, loss in zip(LEVELS, losses, strict=True)}


def coverage(predicted_z: FloatArray, truth_z: FloatArray) -> dict[str, float]:
    """Share of answers at or below each quantile; its level, when calibrated."""
    shares = (truth_z[:, None] <= predicted_z).mean(axis=0)
    return {f"q{level:g}": float(share) for level, share in zip(LEVELS, shares, strict=True)}


def mae(predicted_z: FloatArray, truth_z: FloatArray) -> float:
    """Mean absolute error in tokens."""
    return float(np.mean(np.abs(np.expm1(predicted_z) - np.expm1(truth_z))))


def figures(predicted_z: FloatArray, truth_z: FloatArray) -> dict[str, object]:
    """Everything the report says about calibrated quantiles [N, Q] and true lengths [N]."""
    median = predicted_z[:, _MEDIAN]
    mean_z = np.array(
        [math.log1p(LengthDistribution.from_quantiles(z).mean()) for z in predicted_z]
    )
    by_prediction = np.array_split(np.argsort(median, kind="stable"), BUCKETS)
    by_length = np.array_split(np.argsort(truth_z, kind="stable"), 10)
    return {
        "requests": len(truth_z),
        **ranks(median, truth_z),
        "mae_tokens": mae(median, truth_z),
        # policies are told the mean; it still orders answers whose medians are all at the limit
        "mean": {**ranks(mean_z, truth_z), "mae_tokens": mae(mean_z, truth_z)},
        "pinball": pinball(predicted_z, truth_z),
        "coverage": coverage(predicted_z, truth_z),
        "coverage_by_predicted_median": [
            {
                "up_to_tokens": float(np.expm1(median[rows].max())),
                "requests": len(rows),
                **coverage(predicted_z[rows], truth_z[rows]),
            }
            for rows in by_prediction
            if len(rows)
        ],
        "error_by_length_decile": [
            {
                "up_to_tokens": float(np.expm1(truth_z[rows].max())),
                "mae_tokens": mae(median[rows], truth_z[rows]),
                "bias_tokens": float(np.mean(np.expm1(median[rows]) - np.expm1(truth_z[rows]))),
            }
            for rows in by_length
            if len(rows)
        ],
    }


def online(model: LengthModel, pairs: Pairs, seed: int = 0) -> dict[str, object]:
    """The ladder over all pairs in random order, each answer seen before the next request."""
    ladder, misses, sources = LengthLadder(model), [], []
    for i in np.random.default_rng(seed).permutation(len(pairs)):
        found = ladder.predict(pairs.requests[i])
        length = int(pairs.response_tokens[i])
        misses.append(abs(found.quantiles_tokens[_MEDIAN] - length))
        sources.append(found.source)
        ladder.observe(pairs.requests[i], found, length)
    demoted = [i for i, source in enumerate(sources) if source is not Source.TRAINED]
    return {
        "mae_tokens": float(np.mean(misses)),
        "first_demoted_after": demoted[0] if demoted else None,
        "state": ladder.state(),
    }


def _microseconds(samples_s: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(samples_s, [50, 99]) * 1e6
    return {"p50": float(p50), "p99": float(p99)}


def latency_us(model: LengthModel, requests: Sequence[LengthRequest]) -> dict[str, object]:
    """Time per request, wall clock and CPU: they differ on a busy machine."""
    for request in requests[:50]:
        model.quantiles_z([request])
    wall, cpu = [], []
    for request in requests:
        started, started_cpu = time.perf_counter(), time.thread_time()
        model.quantiles_z([request])
        cpu.append(time.thread_time() - started_cpu)
        wall.append(time.perf_counter() - started)
    return {"wall": _microseconds(wall), "cpu": _microseconds(cpu)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: figures as JSON on stdout; 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="predictors.length.evaluate", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args(arguments)
    try:
        model, pairs = load_model(options.model), read_pairs(options.data, fewest=BUCKETS)
    except (LengthArtifactError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    found = figures(model.quantiles_z(pairs.requests), pairs.truth_z)
    found["online"] = online(model, pairs)
    found["latency_us"] = latency_us(model, pairs.requests)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
