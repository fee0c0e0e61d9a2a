"""What would this kind of predictor have said about these requests? One number per request.

The traces hold no text, so `trained` is a model of our trained predictor, not the predictor: a
calibrated one whose order agrees with the true lengths as well as the trained one's did on
ShareGPT (Spearman, predictors/README.md). `histogram` is the real fallback ladder, which sees one
answer after the other in order of arrival (sooner than a server would: answers take time).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from predictors.length.ladder import LengthLadder, Source
from predictors.length.request import LengthRequest
from scorpio.core.arrays import FloatArray
from scorpio.twin.length_hint import LengthHint
from workloads.request import WorkloadRequest

TRAINED_SPEARMAN = 0.51  # mean of seeds 0, 1, 2 in predictors/README.md
_STREAM = 15_485_863
_CONDITIONAL = ndtri((np.arange(40) + 0.5) / 40)  # where a conditional distribution is summed up


def predicted_tokens(
    requests: Sequence[WorkloadRequest], hint: LengthHint, seed: int
) -> list[float | None]:
    """The expected length of each request's answer, None = no prediction; the same for a seed."""
    if not requests:
        return []
    lengths = np.array([r.output_tokens for r in requests], dtype=np.float64)
    errors = np.random.default_rng([seed, _STREAM]).standard_normal(len(requests))
    match hint.predictor:
        case "trained":
            told = calibrated(lengths, errors, TRAINED_SPEARMAN)
        case "adversarial":
            told = np.sort(lengths)[::-1][_ranks(lengths)]  # the longest is said to be the shortest
        case "constant":
            told = np.full(len(lengths), lengths.mean())
        case "histogram":
            return _histogram(requests)
        case _:
            if hint.sigma is None:
                return [None] * len(requests)
            told = lengths * np.exp(hint.sigma * errors)
    return [max(1.0, hint.bias * tokens) for tokens in told.tolist()]


def calibrated(lengths: FloatArray, errors: FloatArray, spearman: float) -> FloatArray:
    """Conditional means of a predictor that is right about its own uncertainty.

    True lengths and predictions are joined by a normal copula; its correlation r gives the rank
    correlation 6/pi asin(r/2) (Pearson 1907). Each prediction is the mean of what can still be.
    """
    r = 2.0 * math.sin(math.pi * spearman / 6.0)
    truth = ndtri((_ranks(lengths) + 0.5) / len(lengths))
    score = r * truth + math.sqrt(1.0 - r * r) * errors
    possible = ndtr(r * score[:, None] + math.sqrt(1.0 - r * r) * _CONDITIONAL)
    return np.asarray(np.quantile(lengths, possible).mean(axis=1), dtype=np.float64)


def _ranks(lengths: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    ranks = np.empty(len(lengths), dtype=np.int64)
    ranks[np.argsort(lengths, kind="stable")] = np.arange(len(lengths))
    return ranks


def _histogram(requests: Sequence[WorkloadRequest]) -> list[float | None]:
    """The ladder without a trained model, from a cold start."""
    ladder = LengthLadder()
    told: dict[int, float | None] = {}
    for request in sorted(requests, key=lambda r: (r.send_s, r.index)):
        asked = LengthRequest("", request.prompt_tokens, tenant=request.tenant)
        found = ladder.predict(asked)
        told[id(request)] = None if found.source is Source.MAX_TOKENS else found.mean_tokens
        ladder.observe(asked, found, request.output_tokens)
    return [told[id(request)] for request in requests]
