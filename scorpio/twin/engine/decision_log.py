"""What did each request meet, and who started before it? Noted as it happens, for `explain`.

It looks at what comes in and out of the scheduler and decides nothing; without `--log-decisions`
there is none. Bounds: decision.py in scorpio/ledger.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

from scorpio.engine.virtual.requests import EngineCoreOutputs, SchedulerOutput
from scorpio.ledger.decision import MOST_NAMED, MOST_REQUESTS
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import End, Entry


@dataclass(frozen=True, slots=True)
class Scene:
    """The other requests at one moment; running: started and not ended, preempted ones too."""

    waiting: int
    waiting_tokens: int
    running: int


@dataclass(slots=True)
class Met:
    """What a request met. first_start: how many had started when it came; steps, step_tokens: the
    counts then, later what they grew by while it waited. Times in seconds, NaN: never."""

    arrival: Arrival
    came: Scene
    due_before: int
    due_before_tokens: int
    first_start: int
    steps: int
    step_tokens: int
    decided: Scene | None = None
    starts: int = 0
    overtaken_by: int = 0
    started: tuple[Arrival, ...] = ()
    kept: tuple[Arrival, ...] = ()
    started_s: float = math.nan
    cached_tokens: int = 0
    last_s: float = math.nan
    worst_gap_s: float = 0.0


def due_s(arrival: Arrival) -> float:
    """When its first token is due, absolute; inf without such an objective."""
    return arrival.arrival_s + min(arrival.slo.ttft_s, arrival.slo.e2e_s)


class DecisionLog:
    """Of one run. A request waits from its arrival until it starts or ends."""

    def __init__(self) -> None:
        self.met: dict[str, Met] = {}
        self._waiting: dict[str, Arrival] = {}
        self._waiting_tokens = 0
        self._running: set[str] = set()
        self._starts: list[Arrival] = []
        self._steps = self._step_tokens = 0

    def came(self, arrival: Arrival) -> None:
        """A request was sent."""
        if len(self.met) < MOST_REQUESTS:
            mine_s = due_s(arrival)
            before = [a.prompt_tokens for a in self._waiting.values() if due_s(a) <= mine_s]
            self.met[arrival.request_id] = Met(
                arrival,
                self._scene(),
                len(before),
                sum(before),
                len(self._starts),
                self._steps,
                self._step_tokens,
            )
        self._waiting[arrival.request_id] = arrival
        self._waiting_tokens += arrival.prompt_tokens

    def scheduled(self, step: SchedulerOutput, now_s: float) -> None:
        """A step is on its way."""
        for new in step.scheduled_new_reqs:  # the V2 runner lists resumed ones here too
            arrival = self._leaves_queue(new.req_id)
            if arrival is None:
                continue
            met = self.met.get(new.req_id)
            if met is not None:
                met.started_s, met.cached_tokens = now_s, new.num_computed_tokens
                self._decided(met)
            self._running.add(new.req_id)
            self._starts.append(arrival)
        self._steps += 1
        self._step_tokens += step.total_num_scheduled_tokens

    def outputs(self, outputs: Mapping[int, EngineCoreOutputs], now_s: float) -> None:
        """Tokens came."""
        for batch in outputs.values():
            for output in batch.outputs:
                met = self.met.get(output.request_id)
                if met is not None and output.new_token_ids:
                    if now_s - met.last_s > met.worst_gap_s:
                        met.worst_gap_s = now_s - met.last_s
                    met.last_s = now_s

    def ended(self, entry: Entry) -> None:
        """It has its answer (it may be told so twice)."""
        name = entry.arrival.request_id
        self._running.discard(name)
        if self._leaves_queue(name) is None:
            return
        met = self.met.get(name)
        if met is not None:
            self._decided(met)
            if entry.end in (End.REJECTED, End.TURNED_AWAY):
                rows = self._waiting.values()
                met.kept = tuple(
                    heapq.nsmallest(MOST_NAMED, rows, key=lambda a: (due_s(a), a.index))
                )

    def _leaves_queue(self, name: str) -> Arrival | None:
        arrival = self._waiting.pop(name, None)
        if arrival is not None:
            self._waiting_tokens -= arrival.prompt_tokens
        return arrival

    def _decided(self, met: Met) -> None:
        """It waits no longer."""
        first = self._starts[met.first_start :]
        met.decided, met.starts = self._scene(), len(first)
        met.overtaken_by = sum(a.arrival_s > met.arrival.arrival_s for a in first)
        met.started = tuple(first[-MOST_NAMED:])
        met.steps = self._steps - met.steps
        met.step_tokens = self._step_tokens - met.step_tokens

    def _scene(self) -> Scene:
        return Scene(len(self._waiting), self._waiting_tokens, len(self._running))
