"""What does the fleet twin say of load on N replicas, and of an hour in which they come and go?

The first makes the curve of the coarse model, the second says how far that model is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.routing.autoscale import AutoscaleOptions
from scorpio.core.routing.registry import make_ranking
from scorpio.studies.days import TICK_S, Days, DaysKey
from scorpio.studies.study import OURS, engine
from scorpio.twin.fleet.coarse import CoarseOptions, Curve, curve_of, run_coarse
from scorpio.twin.fleet.config import FleetConfig
from scorpio.twin.fleet.run import run_fleet
from scorpio.twin.fleet.scalers import promises
from workloads.errors import WorkloadError
from workloads.request import WorkloadRequest
from workloads.results.records import RequestRecord

ROUTER = "promises"
SIZES = (1, 3)
LOADS = (0.5, 0.8, 1.1, 1.4, 1.8)  # engine seconds per second for each replica
LEAD_TICKS = 2  # until a fleet that begins empty is as full as it will be
TICKS = 4  # that count
DOUBLED = 10  # times that a point may be made longer, until a request counts
HOUR_TICKS = int(3600 / TICK_S)
HOUR_REPLICAS, HOUR_EACH = 4, 1.4  # of an hour that is run: most replicas, load of each at the peak
HOUR_TARGET = 0.75  # of the fluid: full enough that promises are broken
PART_TICKS = 12  # of the hour, those in which most replicas come and go


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """So many replicas under so much load."""

    key: DaysKey
    replicas: int
    load: float
    ticks: int = TICKS

    @property
    def label(self) -> str:
        """What runs."""
        each = f"{self.load:g} on each of {self.replicas}"
        return f"autoscale curve, {each}, {self.ticks} ticks: {self.key.label}"

    def run(self) -> dict[str, float]:
        """load: as drawn. kept: share good. in_flight: in each replica on average."""
        days = self.key.days()
        begin_s = LEAD_TICKS * TICK_S
        requests, end_s = self._drawn(days, begin_s)
        fleet = FleetConfig((engine(self.key.gpu),) * self.replicas)
        made = run_fleet(fleet, requests, lambda view: make_ranking(ROUTER, view), OURS, 0)
        counted = np.array([begin_s <= r.send_s for r in requests])
        span_s = (end_s - begin_s) * self.replicas
        return {
            "load": float(days.works(requests)[counted].sum()) / span_s,
            "kept": float(np.mean([r.good for r in made.records if r.send_s >= begin_s])),
            "in_flight": _in_flight_s(made.records, begin_s, end_s) / span_s,
        }

    def _drawn(self, days: Days, begin_s: float) -> tuple[list[WorkloadRequest], float]:
        """Requests of which one or more count, and when they end: where few large ones come, not
        one may come in a minute. Raises WorkloadError."""
        for ticks in (self.ticks << doubled for doubled in range(DOUBLED)):
            requests = days.typical(self.load * self.replicas, LEAD_TICKS + ticks, 1)
            if requests and requests[-1].send_s >= begin_s:
                return requests, (LEAD_TICKS + ticks) * TICK_S
        raise WorkloadError(f"{self.label}: no request in {ticks * TICK_S:g} s")


def _in_flight_s(records: list[RequestRecord], begin_s: float, end_s: float) -> float:
    """Seconds of all requests together that they were in a replica between two times."""
    ends = [(r.send_s, r.ended_s if r.ended_s is not None else r.send_s) for r in records]
    return float(sum(max(min(end, end_s) - max(send, begin_s), 0.0) for send, end in ends))


def curve_points(key: DaysKey, quick: bool = False) -> list[CurvePoint]:
    """All that a curve takes."""
    if quick:
        return [CurvePoint(key, 1, load, 1) for load in (0.5, 1.4)]
    return [CurvePoint(key, size, load) for size in SIZES for load in LOADS]


def made_curve(found: list[tuple[int, dict[str, float]]]) -> Curve:
    """found: replicas of each point, and what it returned."""
    points: dict[int, list[tuple[float, float, float]]] = {}
    for replicas, one in found:
        points.setdefault(replicas, []).append((one["load"], one["kept"], one["in_flight"]))
    return curve_of(points)


@dataclass(frozen=True, slots=True)
class HourInTwin:
    """A part of an hour of the days, with replicas as the autoscaler sets them. hour: from 0."""

    key: DaysKey
    hour: int
    warm_up_s: float
    part_ticks: int = PART_TICKS

    @property
    def label(self) -> str:
        """What runs."""
        return f"autoscale hour {self.hour}, {self.part_ticks} ticks: {self.key.label}"

    def run(self) -> dict[str, Any]:
        """ready, load: in each tick that counts; load as the coarse model takes it. kept: share
        good of the requests sent then."""
        days = self.key.days()
        factor = HOUR_REPLICAS * HOUR_EACH / float(days.window_load.max())
        end = (self.hour + 1) * HOUR_TICKS
        sent = days.sent(factor, self.hour)[:, :end]
        load = days.load(sent)
        ready = self._ready(load, days.fluid())
        first = self._busiest(ready, end - HOUR_TICKS, end)
        part = slice(first - LEAD_TICKS, first + self.part_ticks)
        requests = days.requests(sent[:, part], self.hour)
        fleet = _fleet(ready[part].astype(int).tolist(), self.key.gpu)
        made = run_fleet(fleet, requests, lambda view: make_ranking(ROUTER, view), OURS, self.hour)
        counted = slice(first, first + self.part_ticks)
        good = [r.good for r in made.records if r.send_s >= LEAD_TICKS * TICK_S]
        return {
            "from_s": first * TICK_S,
            "ready": ready[counted].astype(int).tolist(),
            "load": load[first - LEAD_TICKS : first + self.part_ticks].tolist(),
            "requests": sent[:, counted].sum(axis=0).tolist(),
            "kept": float(np.mean(good)),
        }

    def _ready(self, load: FloatArray, kept: Any) -> FloatArray:
        """Replicas in each tick. The curve does not matter: the fluid decides."""
        options = AutoscaleOptions(HOUR_TARGET, self.warm_up_s, max_replicas=HOUR_REPLICAS)
        coarse = CoarseOptions(TICK_S, warm_up_s=self.warm_up_s, max_replicas=HOUR_REPLICAS)
        none = Curve((1,), np.array([0.0, 1.0]), np.ones((1, 2)), np.zeros((1, 2)))
        return run_coarse(load, none, promises(options, kept), coarse, 2).ready

    def _busiest(self, ready: FloatArray, begin: int, end: int) -> int:
        """Where in the hour most replicas come and go; the first of equals."""
        changes = np.abs(np.diff(ready[begin:end], prepend=ready[begin]))
        starts = range(LEAD_TICKS, len(changes) - self.part_ticks)
        found = [float(changes[s : s + self.part_ticks].sum()) for s in starts]
        return begin + LEAD_TICKS + int(np.argmax(found))


def _fleet(ready: list[int], gpu: str) -> FleetConfig:
    """Replicas that join and drain as `ready` says, tick by tick; the youngest drains first."""
    alive = list(range(ready[0]))
    made, joins, leaves = ready[0], {}, {}
    for tick, count in enumerate(ready):
        while len(alive) < count:
            joins[made] = tick * TICK_S
            alive.append(made)
            made += 1
        while len(alive) > count:
            leaves[alive.pop()] = tick * TICK_S
    return FleetConfig((engine(gpu),) * made, joins_s=joins, leaves_s=leaves)
