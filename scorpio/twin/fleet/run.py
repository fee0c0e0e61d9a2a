"""What does a router make of this load on this fleet? N real schedulers in one virtual time.

Between two events of the router (a request, a report, a loss) replicas do not touch each other, so
each runs up to the event's time by itself.
"""

from __future__ import annotations

import gc
import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from scorpio.core.plan import BUSY, Forecast
from scorpio.core.routing.fallback import Deployments, Place
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import UNKNOWN_LENGTH, ReplicaLoad, RoutedRequest
from scorpio.core.routing.router import Ranking, Router
from scorpio.core.slo import XARG_PREDICTED
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import End, Entry
from scorpio.twin.fleet.config import FleetConfig
from scorpio.twin.fleet.replica import FleetReplica
from scorpio.twin.run import check_policy
from scorpio.twin.translate import arrivals, records
from workloads.request import WorkloadRequest
from workloads.results.records import RequestRecord

_BUSY = frozenset(reason.value for reason in BUSY)
LOOK_S = 0.01  # between two looks for refusals: no turn of an engine is shorter


@dataclass(frozen=True, slots=True)
class FleetRun:
    """records: as the client saw them, in order of index. went: replica of each, -1 = none was
    left. digests: of each replica's event log. resent: requests sent again because their replica
    died. again: those sent to another because theirs had refused them. wall_s, route_us: this
    machine's time, in all and for a decision.
    """

    records: list[RequestRecord]
    went: list[int]
    digests: tuple[str, ...]
    resent: int
    again: int
    wall_s: float
    route_us: float


def run_fleet(
    fleet: FleetConfig,
    workload: Sequence[WorkloadRequest],
    make_ranking: Callable[[FleetView], Ranking],
    policy: str,
    seed: int = 0,
) -> FleetRun:
    """Serve `workload` with `policy` in every replica. Raises what `run_twin` raises."""
    run = _Run(fleet, list(workload), make_ranking, policy, seed)
    gc.collect()
    gc.freeze()
    started_s = time.perf_counter()
    try:
        run.serve()
    finally:
        gc.unfreeze()
    return run.outcome(time.perf_counter() - started_s)


class _Run:
    def __init__(
        self,
        fleet: FleetConfig,
        workload: list[WorkloadRequest],
        make_ranking: Callable[[FleetView], Ranking],
        policy: str,
        seed: int,
    ) -> None:
        self._fleet, self._policy = fleet, policy
        self._replicas = [
            FleetReplica.make(number, engine, policy, seed, workload)
            for number, engine in enumerate(fleet.engines)
        ]
        facts = [one.facts for one in self._replicas]
        first, fallback = (
            Router(view, make_ranking(view))
            for view in (
                FleetView(facts[: fleet.first], fleet.delay_s),
                FleetView(facts[fleet.first :], fleet.delay_s),
            )
        )
        self._routers = Deployments(first, fallback, fleet.fallback_shares)
        for number in fleet.joins_s:
            self._allow(number, False)
        self._load = arrivals(workload, fleet.engines[0], seed)
        self._went: dict[str, int] = {}
        self._been: dict[str, tuple[int, ...]] = {}
        # A refusal matters when another replica may be tried, and to ceilings.
        self._looking = fleet.tries > 1 or fleet.fallback > 0
        self._open: dict[str, Arrival] = {}  # not refused so far, and without a token
        self._dead: set[int] = set()
        self._resent, self._again, self._route_s, self._number = 0, 0, 0.0, 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []

    def serve(self) -> None:
        """All events in order of time, then what is still running."""
        fleet = self._fleet
        for number, at_s in fleet.joins_s.items():
            self._at(at_s, partial(self._joins, number))
        for number, at_s in fleet.leaves_s.items():
            self._at(at_s, partial(self._leaves, number))
        for number, at_s in fleet.lost_s.items():
            self._at(at_s, partial(self._dies, number))
        for number in range(len(self._replicas)):
            first_s = fleet.report_s * (number + 1) / len(self._replicas)
            self._at(first_s, partial(self._reports, number))
        for arrival in self._load:
            self._at(arrival.arrival_s, partial(self._comes, arrival))
        if self._looking:
            self._at(LOOK_S, self._looks)
        self._unrouted = len(self._load) + len(fleet.lost_s)  # what the dead hold comes again
        while (self._unrouted or self._open) and self._events:
            now_s, _, event = heapq.heappop(self._events)
            event(now_s)
        for number, replica in enumerate(self._replicas):
            if number not in self._dead:
                replica.loop.advance(math.inf)
                replica.loop.drained()
            check_policy(replica.loop, self._policy)

    def outcome(self, wall_s: float) -> FleetRun:
        """As clients saw it."""
        forecasts: dict[str, Forecast] = {}
        for replica in self._replicas:
            forecasts |= replica.forecasts
        made = records([self._entry(arrival) for arrival in self._load], forecasts)
        sent = sorted(self._load, key=lambda arrival: arrival.index)
        delay_s = self._fleet.delay_s
        return FleetRun(
            records=[_as_sent(r, a, delay_s) for r, a in zip(made, sent, strict=True)],
            went=[self._went.get(a.request_id, -1) for a in sent],
            digests=tuple(one.loop.log.digest() for one in self._replicas),
            resent=self._resent,
            again=self._again,
            wall_s=wall_s,
            route_us=1e6 * self._route_s / max(len(self._load), 1),
        )

    # -- events --------------------------------------------------------------------------------

    def _at(self, when_s: float, event: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when_s, self._number, event))

    def _comes(self, arrival: Arrival, now_s: float) -> None:
        self._routers.comes(_routed(arrival))
        self._route(arrival, now_s)

    def _route(self, arrival: Arrival, now_s: float, refused: bool = False) -> None:
        """refused: by the first deployment."""
        self._unrouted -= 1
        request_id, routed = arrival.request_id, _routed(arrival)
        been = self._been.get(request_id, ())
        started_s = time.perf_counter()
        place = self._routers.choose(routed, now_s, frozenset(map(self._place, been)), refused)
        self._route_s += time.perf_counter() - started_s
        if place is None:
            return
        number = place.row + self._fleet.first * place.fallback
        self._went[request_id] = number
        self._been[request_id] = (*been, number)
        self._replicas[number].send(arrival, now_s + self._fleet.delay_s)
        if self._looking:
            self._open[request_id] = arrival

    def _looks(self, now_s: float) -> None:
        """Which requests were refused since the last look?"""
        for number, replica in enumerate(self._replicas):
            if number not in self._dead:
                replica.loop.advance(now_s)
        for request_id, arrival in list(self._open.items()):
            number = self._went[request_id]
            entry = self._replicas[number].entry(request_id)
            waits = entry is None or (entry.end is None and not entry.tokens)
            if waits and number not in self._dead:  # the dead are heard of otherwise
                continue
            del self._open[request_id]
            if entry is not None and entry.end in (End.REJECTED, End.TURNED_AWAY):
                self._was_refused(entry, arrival, now_s)
        self._at(now_s + LOOK_S, self._looks)

    def _was_refused(self, entry: Entry, arrival: Arrival, now_s: float) -> None:
        been = self._been[arrival.request_id]
        if been[-1] >= self._fleet.first:
            self._routers.not_served(_routed(arrival))
        busy = entry.end is End.TURNED_AWAY or entry.reason in _BUSY
        if busy and len(been) < self._fleet.tries:
            self._again += 1
            self._unrouted += 1
            heard_s = max(now_s, entry.end_s + self._fleet.delay_s)
            by_first = any(number < self._fleet.first for number in been)
            self._at(heard_s, partial(self._route, arrival, refused=by_first))

    def _reports(self, number: int, now_s: float) -> None:
        if number in self._dead:
            return
        replica = self._replicas[number]
        replica.loop.advance(now_s)
        load = replica.load(now_s)
        if load is not None:
            arrives_s = now_s + self._fleet.delay_s
            self._at(arrives_s, partial(self._heard, number, load))
        self._at(now_s + self._fleet.report_s, partial(self._reports, number))

    def _heard(self, number: int, load: ReplicaLoad, _: float) -> None:
        place = self._place(number)
        self._routers.router(place.fallback).report(place.row, load)

    def _joins(self, number: int, _: float) -> None:
        self._allow(number, True)

    def _leaves(self, number: int, _: float) -> None:
        self._allow(number, False)

    def _allow(self, number: int, alive: bool) -> None:
        place = self._place(number)
        self._routers.router(place.fallback).view.allow(place.row, alive)

    def _place(self, number: int) -> Place:
        fallback = number >= self._fleet.first
        return Place(fallback, number - self._fleet.first * fallback)

    def _dies(self, number: int, now_s: float) -> None:
        self._replicas[number].loop.advance(now_s)
        self._dead.add(number)
        self._at(now_s + self._fleet.notice_s, partial(self._noticed, number))

    def _noticed(self, number: int, now_s: float) -> None:
        place = self._place(number)
        self._routers.router(place.fallback).lost(place.row)
        self._unrouted -= 1
        for arrival in self._load:
            if self._went.get(arrival.request_id) == number:
                entry = self._replicas[number].entry(arrival.request_id)
                if entry is None or (entry.end is None and not entry.tokens):
                    self._resent += 1
                    self._unrouted += 1
                    if place.fallback:
                        self._routers.not_served(_routed(arrival))
                    self._route(arrival, now_s)

    def _entry(self, arrival: Arrival) -> Entry:
        number = self._went.get(arrival.request_id)
        entry = None if number is None else self._replicas[number].entry(arrival.request_id)
        if entry is None:
            return Entry(arrival, 0, end=End.FAILED, end_s=arrival.arrival_s, reason="no replica")
        if entry.end is None:  # its replica died
            return replace(entry, end=End.FAILED, end_s=entry.last_s, reason="replica lost")
        return entry


def _as_sent(record: RequestRecord, arrival: Arrival, delay_s: float) -> RequestRecord:
    """From the client's side of the router: its own time, its own SLO, one way back."""
    first_s, last_s = record.first_token_s, record.last_token_s
    return replace(
        record,
        send_s=arrival.arrival_s,
        scheduled_send_s=arrival.arrival_s,
        ttft_slo_s=arrival.slo.ttft_s,
        first_token_s=None if first_s is None else first_s + delay_s,
        last_token_s=None if last_s is None else last_s + delay_s,
        ended_s=None if record.ended_s is None else record.ended_s + delay_s,
    )


def _routed(arrival: Arrival) -> RoutedRequest:
    told = arrival.xargs.get(XARG_PREDICTED)
    return RoutedRequest(
        arrival.index,
        arrival.arrival_s,
        arrival.prompt_tokens,
        arrival.slo,
        float(told) if isinstance(told, (int, float)) else UNKNOWN_LENGTH,
        prefix_ids=arrival.prefix_ids,
        prefix_block_tokens=arrival.prefix_block_tokens,
        slo_class=arrival.slo_class,
    )
