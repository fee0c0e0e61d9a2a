"""What would days of load be like with so many replicas? A coarse model: no requests, but a curve.

The curve says which share of promises N replicas keep of so much work, as the fleet twin measured
it. Days then take seconds: in each tick the replicas that are warm keep what the curve says. A
replica that was ordered is paid for at once and serves when it is warm; one that goes is paid for
until it has drained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.routing.load_forecast import DAY_S

Scaler = Callable[["Seen"], int]  # what is seen now -> wanted replicas
DRAIN_S = 30.0  # as FleetSettings.drain_s


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """replicas: sizes measured, the least first, [R]. load: engine seconds per second for each
    replica, [L], rising from 0. kept: share of the requests that were good, [R, L]. in_flight:
    requests in each replica, [R, L]."""

    replicas: tuple[int, ...]
    load: FloatArray
    kept: FloatArray
    in_flight: FloatArray

    def __post_init__(self) -> None:
        shape = (len(self.replicas), len(self.load))
        if self.kept.shape != shape or self.in_flight.shape != shape or min(shape) < 1:
            raise ValueError(f"kept and in_flight must have the shape {shape}")
        if (np.diff(self.load) <= 0.0).any() or (np.diff(self.replicas) <= 0).any():
            raise ValueError("replicas and load must rise")

    def __call__(self, load: FloatArray, replicas: int) -> FloatArray:
        """Share kept of a load of all replicas together, in its shape. Beyond what was measured no
        more is kept in all than at the end of it."""
        each = np.asarray(load) / max(replicas, 1)
        end = float(self.load[-1])
        beyond = np.minimum(1.0, end / np.maximum(each, end))
        found: FloatArray = np.interp(each, self.load, self._of(self.kept, replicas)) * beyond
        return found

    def requests(self, load: FloatArray, replicas: int) -> FloatArray:
        """Requests in all replicas together."""
        each = np.asarray(load) / max(replicas, 1)
        found: FloatArray = replicas * np.interp(
            each, self.load, self._of(self.in_flight, replicas)
        )
        return found

    def _of(self, table: FloatArray, replicas: int) -> FloatArray:
        """Between two measured sizes by the logarithm; beyond them as the nearest."""
        place = float(np.interp(np.log(max(replicas, 1)), np.log(self.replicas), self._rows))
        low = int(place)
        high = min(low + 1, len(self.replicas) - 1)
        row: FloatArray = table[low] + (place - low) * (table[high] - table[low])
        return row

    @property
    def _rows(self) -> FloatArray:
        return np.arange(len(self.replicas), dtype=float)


def curve_of(points: dict[int, list[tuple[float, float, float]]]) -> Curve:
    """points: replicas -> (load of each, share kept, in flight in each), as measured, in any order.
    More load never keeps more: where chance says so, neighbours are averaged."""
    sizes = tuple(sorted(points))
    grid = np.array([0.0, *sorted({load for found in points.values() for load, _, _ in found})])
    kept, busy = [], []
    for size in sizes:
        found = sorted(points[size])
        load = np.array([0.0, *(at for at, _, _ in found)])
        share = _falling([found[0][1], *(share for _, share, _ in found)])
        kept.append(np.interp(grid, load, share))
        busy.append(np.interp(grid, load, [0.0, *(requests for _, _, requests in found)]))
    return Curve(sizes, grid, np.maximum.accumulate(np.array(kept), axis=0), np.array(busy))


def _falling(values: list[float]) -> list[float]:
    """The nearest values that never rise (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (one, n), (two, m) = pools[-2:]
            pools[-2:] = [((one * n + two * m) / (n + m), n + m)]
    return [value for value, count in pools for _ in range(count)]


@dataclass(frozen=True, slots=True)
class CoarseOptions:
    """tick_s: of the model; the scaler is asked every `every_s`. drain_s: how long a replica that
    goes is still paid for."""

    tick_s: float = 10.0
    every_s: float = 30.0
    warm_up_s: float = 100.0
    drain_s: float = DRAIN_S
    max_replicas: int = 16

    def __post_init__(self) -> None:
        if not 0.0 < self.tick_s <= self.every_s <= DAY_S:
            raise ValueError(f"tick_s and every_s must be in 0 < tick_s <= every_s <= {DAY_S:g}")
        if not (0.0 <= self.warm_up_s <= DAY_S and 0.0 <= self.drain_s <= DAY_S):
            raise ValueError(f"warm_up_s and drain_s must be in [0, {DAY_S:g}]")
        if not 1 <= self.max_replicas <= 4096:
            raise ValueError(f"max_replicas must be in [1, 4096], got {self.max_replicas!r}")


@dataclass(frozen=True, slots=True)
class Seen:
    """At `now_s`, which is `tick` ticks in. load: since the scaler was asked last, engine seconds
    per second. in_flight: requests in all ready replicas."""

    now_s: float
    tick: int
    load: float
    in_flight: float
    ready: int
    starting: int


@dataclass(frozen=True, slots=True, eq=False)
class CoarseRun:
    """In each tick: ready and paid replicas, and the share kept, [T]."""

    ready: FloatArray
    paid: FloatArray
    kept: FloatArray


def smoothed(load: FloatArray, ticks: int) -> FloatArray:
    """Mean of the last `ticks` ticks, [T]: engines even out what comes within seconds."""
    sums = np.concatenate([[0.0], np.cumsum(load)])
    end = np.arange(1, len(load) + 1)
    begin = np.maximum(end - ticks, 0)
    found: FloatArray = (sums[end] - sums[begin]) / (end - begin)
    return found


def run_coarse(
    load: FloatArray, curve: Curve, scaler: Scaler, options: CoarseOptions, start: int
) -> CoarseRun:
    """load: engine seconds per second in each tick, [T]. start: replicas ready at first."""
    ticks = max(round(options.every_s / options.tick_s), 1)
    even = smoothed(load, ticks)
    sizes = range(options.max_replicas + 1)
    kept = np.array([curve(even, n) if n else np.zeros(len(load)) for n in sizes])
    busy = np.array([curve.requests(even, n) if n else np.zeros(len(load)) for n in sizes])
    pool = _Pool(start, options)
    ready, paid = np.zeros(len(load)), np.zeros(len(load))
    for tick in range(len(load)):
        now_s = tick * options.tick_s
        pool.advance(now_s)
        if tick and tick % ticks == 0:
            last = tick - 1
            in_flight = float(busy[pool.ready, last])
            seen = Seen(now_s, tick, float(even[last]), in_flight, pool.ready, len(pool.starts_s))
            pool.order(min(max(scaler(seen), 1), options.max_replicas), now_s)
        ready[tick], paid[tick] = pool.ready, pool.paid
    return CoarseRun(ready, paid, kept[ready.astype(int), np.arange(len(load))])


class _Pool:
    """Replicas that are ready, that start (when each is warm) and that drain (until when)."""

    def __init__(self, ready: int, options: CoarseOptions) -> None:
        self.ready, self._options = ready, options
        self.starts_s: list[float] = []
        self._drains_s: list[float] = []

    @property
    def paid(self) -> int:
        """All that hold a GPU."""
        return self.ready + len(self.starts_s) + len(self._drains_s)

    def advance(self, now_s: float) -> None:
        """Those that are warm by now serve; those that have drained are gone."""
        warm = [at_s for at_s in self.starts_s if at_s <= now_s]
        self.ready += len(warm)
        self.starts_s = self.starts_s[len(warm) :]
        self._drains_s = [at_s for at_s in self._drains_s if at_s > now_s]

    def order(self, wanted: int, now_s: float) -> None:
        """Of fewer, those that are not yet warm go first, the latest of them before others."""
        more = wanted - self.ready - len(self.starts_s)
        if more > 0:
            self.starts_s += [now_s + self._options.warm_up_s] * more
            return
        given_up = min(-more, len(self.starts_s))
        self.starts_s = self.starts_s[: len(self.starts_s) - given_up]
        drained = min(-more - given_up, self.ready - 1)
        self.ready -= drained
        self._drains_s += [now_s + self._options.drain_s] * drained
