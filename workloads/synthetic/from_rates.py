"""Which requests come when so many a second are sent by each client? Counts for each tick, and
requests.

Counts of a client are as uneven over ticks as gaps with its variation are over a time longer than a
gap; inside a tick its requests are spread evenly by chance.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.mixes import Mix
from workloads.request import WorkloadRequest, with_mix
from workloads.traces.rates import ClientTokens, Rates
from workloads.traces.row import TraceRow

_COUNTS, _REQUESTS = 11, 12  # streams below the seed
_LEAST = 1e-9


def counts(rates: Rates, tick_s: float, seed: int) -> NDArray[np.int64]:
    """Requests of each client in each tick, [client, tick]: as many on average as its rate says,
    and as uneven as gaps with its variation make them over a time longer than a gap."""
    per_window = round(rates.window_s / tick_s)
    if per_window < 1 or abs(per_window * tick_s - rates.window_s) > 1e-6 * rates.window_s:
        raise WorkloadError(f"a window of {rates.window_s:g} s is no whole number of {tick_s:g} s")
    rng = np.random.default_rng([seed, _COUNTS])
    mean = np.repeat(rates.rate_rps * tick_s, per_window, axis=1)
    spread = np.repeat(np.maximum(rates.gap_cv**2 - 1.0, 0.0), per_window, axis=1)
    # variance = cv^2 x mean: a rate that is itself drawn
    uneven = spread > _LEAST
    shape = np.where(uneven, mean / np.where(uneven, spread, 1.0), 1.0)
    drawn = rng.gamma(np.maximum(shape, 1e-12)) * np.where(uneven, spread, 0.0)
    made: NDArray[np.int64] = rng.poisson(np.where(uneven, drawn, mean))
    return made


def requests_of(
    rates: Rates,
    sent: NDArray[np.int64],
    tick_s: float,
    tokens: Mapping[str, ClientTokens],
    unknown: ClientTokens,
    mix: Mix,
    seed: int,
    most_tokens: int,
) -> list[WorkloadRequest]:
    """The requests behind `sent`, [client, tick], in order of arrival; the first tick begins at 0.

    tokens: of each client that is known; `unknown` stands for the others. Prompts are cut to
    `most_tokens`, and answers to what is left of it.
    """
    rng = np.random.default_rng([seed, _REQUESTS])
    rows = []
    for name, each in zip(rates.clients, sent, strict=True):
        count = int(each.sum())
        at_s = tick_s * (np.repeat(np.arange(len(each)), each) + rng.random(count))
        lengths = tokens.get(name, unknown)
        prompts = np.minimum(lengths.drawn(rng.random(count), "prompt"), most_tokens - 1)
        answers = np.minimum(lengths.drawn(rng.random(count), "output"), most_tokens - prompts)
        rows += [
            TraceRow(float(t), int(p), max(int(o), 1), (), {}, name)
            for t, p, o in zip(at_s, prompts, answers, strict=True)
        ]
    return with_mix(sorted(rows, key=lambda row: row.arrival_s), mix, seed)
