"""What else might have come? Other traffic like a trace's: blocks of it, drawn anew and in a row.

A circular block bootstrap of the requests: a block keeps the gaps between its arrivals, their
lengths and classes, so bursts stay bursts; how many bursts come, how busy they are and which
requests are long differs from draw to draw, and so does the mean rate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workloads.request import WorkloadRequest

_PARTS = 10  # a trace has at least so many blocks, where they get sqrt(n) requests by that


def block_length(count: int) -> int:
    """Neighbouring requests that are drawn together."""
    return min(count, max(math.isqrt(count), count // _PARTS, 1))


def resampled(requests: Sequence[WorkloadRequest], seed: int, draw: int) -> list[WorkloadRequest]:
    """As many requests, from the first one's time on; draw 0 is the trace as it is. requests: in
    order of arrival. What is drawn twice shares no prompt with its first copy."""
    if draw == 0 or len(requests) < 2:
        return list(requests)
    count, block = len(requests), block_length(len(requests))
    starts = np.random.default_rng([seed, draw]).integers(0, count, size=-(-count // block))
    rows = ((starts[:, None] + np.arange(block)) % count).ravel()[:count]
    sent_s = np.array([request.send_s for request in requests])
    gaps_s = np.diff(sent_s, prepend=0.0)
    gaps_s[0] = (sent_s[-1] - sent_s[0]) / (count - 1)  # none came before the first: a usual one
    times_s = sent_s[0] + np.concatenate(([0.0], np.cumsum(gaps_s[rows[1:]])))
    ids = [number for request in requests for number in request.hash_ids]
    stride = max(ids) - min(ids) + 1 if ids else 0
    seen: Counter[int] = Counter()
    drawn = []
    for index, (row, time_s) in enumerate(zip(rows.tolist(), times_s.tolist(), strict=True)):
        request, shift = requests[row], stride * seen[row]
        own_ids = tuple(number + shift for number in request.hash_ids)
        drawn.append(replace(request, index=index, send_s=time_s, hash_ids=own_ids))
        seen[row] += 1
    return drawn
