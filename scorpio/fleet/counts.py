"""What has this front done? Counters and gauges for Prometheus, one registry for each front."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scorpio.fleet.members import Members, State

GONE_S = 600.0  # of a replica that is gone, until its labels go: its last counts are to be read
_ROUTE_BUCKETS_S = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3)


class Counts:
    """Of one front. now_s: any clock."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._seen_s: dict[str, float] = {}  # when each replica with labels was last there
        self._missed_of: set[tuple[str, str]] = set()
        self._registry = CollectorRegistry(auto_describe=False)
        self._sent = Counter(
            "scorpio_fleet_requests",
            "Requests sent to a replica.",
            ["replica"],
            registry=self._registry,
        )
        self._missed = Counter(
            "scorpio_fleet_not_answered",
            "Requests that a replica did not answer: refused, unavailable, failed, lost.",
            ["replica", "reason"],
            registry=self._registry,
        )
        self._fell = Counter(
            "scorpio_fleet_fallbacks",
            "Requests that the fallback served because the first deployment could not.",
            ["slo_class"],
            registry=self._registry,
        )
        self._route_s = Histogram(
            "scorpio_fleet_route_duration_seconds",
            "Choosing a replica for a request.",
            buckets=_ROUTE_BUCKETS_S,
            registry=self._registry,
        )

    def sent(self, replica: str) -> None:
        """A request goes there."""
        self._seen_s[replica] = self._now_s()
        self._sent.labels(replica).inc()

    def not_answered(self, replica: str, why: str) -> None:
        """The client has seen nothing of it."""
        self._seen_s[replica] = self._now_s()
        self._missed_of.add((replica, why))
        self._missed.labels(replica, why).inc()

    def fell_back(self, slo_class: str) -> None:
        """The fallback serves a request of this class."""
        self._fell.labels(slo_class).inc()

    def routed(self, seconds: float) -> None:
        """So long a decision took."""
        self._route_s.observe(seconds)

    def text(self, members: Members, wanted: int | None = None) -> bytes:
        """As Prometheus reads it. wanted: replicas that there should be, None = not this front's to
        say."""
        self._forget_those_gone(members.by_name)
        now = CollectorRegistry(auto_describe=False)
        now.register(_Replicas(members, wanted))
        return bytes(generate_latest(self._registry)) + bytes(generate_latest(now))

    def _forget_those_gone(self, there: Collection[str]) -> None:
        """Each replica that Ray starts has a new name, and a fleet that is scaled starts many."""
        now_s = self._now_s()
        for replica in list(self._seen_s):
            if replica in there:
                self._seen_s[replica] = now_s
            elif self._seen_s[replica] < now_s - GONE_S:
                del self._seen_s[replica]
                self._sent.labels(replica)  # so that there is one to remove
                self._sent.remove(replica)
                for labels in [one for one in self._missed_of if one[0] == replica]:
                    self._missed_of.remove(labels)
                    self._missed.remove(*labels)


class _Replicas(Collector):
    def __init__(self, members: Members, wanted: int | None) -> None:
        self._members, self._wanted = members, wanted

    def collect(self) -> Iterator[Metric]:
        states = [member.state for member in self._members.by_name.values()]
        replicas = GaugeMetricFamily(
            "scorpio_fleet_replicas", "Replicas, by state.", labels=["state"]
        )
        for state in State:
            replicas.add_metric([state.value], states.count(state))
        yield replicas
        if self._wanted is not None:
            yield GaugeMetricFamily(
                "scorpio_fleet_wanted_replicas",
                "Replicas that keep the target attainment when a new one is warm.",
                self._wanted,
            )
