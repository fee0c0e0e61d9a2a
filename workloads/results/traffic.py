"""How sure is a share of good requests, over traffic that varies? An interval for one such period.

Runs are of one trace and of draws from it (workloads/resampled.py), each with its own noise. Their
scatter is that of a period as long as the trace: it does not shrink with the number of runs, as
that of a mean would. It is never taken to be narrower than so many requests allow (Wilson's
interval): twenty good ones of twenty are no proof of 99 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from workloads.results.intervals import CONFIDENCE, Interval, mean_interval


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Of a share of `count` requests that have nothing to do with each other."""
    found = stats.binomtest(round(share * count), count).proportion_ci(CONFIDENCE, "wilson")
    return float(found.low), float(found.high)


def traffic_interval(runs: Sequence[Sequence[float]]) -> Interval:
    """runs: per run one 0 or 1 per request, in order of arrival; runs without requests do not
    count. Of one run the scatter is that of its blocks. Raises ValueError: no request at all."""
    kept = [run for run in runs if len(run)]
    if not kept:
        raise ValueError("an interval needs at least one request")
    means = np.array([np.mean(run) for run in kept])
    centre, values = float(means.mean()), sum(map(len, kept))
    low, high = share_interval(centre, math.ceil(values / len(kept)))
    if len(kept) == 1:
        own = mean_interval(kept)
        low, high = min(low, own.low), max(high, own.high)
    else:
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(kept) - 1) * means.std(ddof=1))
        low, high = min(low, centre - half), max(high, centre + half)
    return Interval(centre, max(low, 0.0), min(high, 1.0), len(kept), values)
