"""What is one engine of a fleet? The twin's loop, fed request by request, asked for its load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scorpio.core.plan import Forecast
from scorpio.core.routing.load import Replica, ReplicaLoad
from scorpio.core.slo import XARG_FIELDS
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.twin.config import TwinConfig
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import Entry
from scorpio.twin.engine.loop import TwinLoop
from scorpio.twin.run import policy_profile, twin_loop
from workloads.request import WorkloadRequest

LEAST_TTFT_S = 1e-3  # a request whose time is over still asks for something
TTFT_XARG = XARG_FIELDS[0]
_NOISE = 10_007  # steps scatter differently from replica to replica


@dataclass(slots=True)
class FleetReplica:
    """facts: what a router is told of it once."""

    number: int
    loop: TwinLoop
    facts: Replica
    _sent: list[Arrival] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        number: int,
        config: TwinConfig,
        policy: str,
        seed: int,
        workload: list[WorkloadRequest],
    ) -> FleetReplica:
        """Raises ValueError for a policy that is none of ours: stock vLLM tells no router."""
        own = seed + _NOISE * (number + 1)
        profile = policy_profile(config, own)
        loop = twin_loop(config, workload, policy, own, profile)
        spec = config.engine
        facts = Replica(
            profile.step, spec.max_num_batched_tokens, spec.max_num_seqs, spec.kv_tokens
        )
        made = cls(number, loop, facts)
        loop.expect(made._sent)
        return made

    def send(self, arrival: Arrival, at_s: float) -> None:
        """It reaches the engine at `at_s` and has less of its TTFT left than when it was sent."""
        self._sent.append(_later(arrival, at_s - arrival.arrival_s))

    def load(self, at_s: float) -> ReplicaLoad | None:
        """What it tells; a stock scheduler tells nothing."""
        scheduler = self.loop.scheduler
        if not isinstance(scheduler, VirtualScorpioScheduler):
            return None
        return scheduler.load(at_s)

    @property
    def forecasts(self) -> Mapping[str, Forecast]:
        """What its policy thought of the requests that it let in, by id."""
        scheduler = self.loop.scheduler
        return scheduler.forecasts if isinstance(scheduler, VirtualScorpioScheduler) else {}

    def entry(self, request_id: str) -> Entry | None:
        """What has become of it here."""
        return self.loop.ledger.entries.get(request_id)


def _later(arrival: Arrival, waited_s: float) -> Arrival:
    """As the replica gets it: the router says what is left of the time to its first token."""
    slo, xargs = arrival.slo, dict(arrival.xargs)
    left_s = max(slo.ttft_s - waited_s, LEAST_TTFT_S)
    if TTFT_XARG in xargs:
        xargs[TTFT_XARG] = left_s * 1000.0
    at_s = arrival.arrival_s + waited_s
    return replace(arrival, arrival_s=at_s, slo=replace(slo, ttft_s=left_s), xargs=xargs)
