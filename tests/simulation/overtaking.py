"""15: is a request that is never refused overtaken without end? `scorpio`, in every run.

W_max (docs/guarantees.md) adds up, for each request that stands before it, the time until running
answers have ended and the time that 1/8 of the prefill takes. Watched is what both stand for: of
all that have waited for `patience_s` and cannot be refused the one that has waited longest is
next. Once all that ran when its turn came are gone, those that came after its turn get no more
prefill than eight times its own, and a few steps.
"""

from __future__ import annotations

import numpy as np

from scorpio.core.policies.scorpio.deficit import SHARE
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot
from scorpio.engine.virtual.requests import SchedulerOutput
from tests.simulation.beliefs import Require
from tests.simulation.swarm import Swarm

_STEPS = 24  # of prefill, beyond: the deficit counter is worth one, others round up
_UNCERTAIN = (
    "switch", "failing", "bad_keys",  # another policy, or none, decides
    "streaming",  # a session keeps its seat for as long as its client likes
    "misprofiled", "throttled", "noise",  # a second of prefill is another than it is believed
)  # fmt: skip


class Overtaking:
    """`_next`: whose turn it is. `_ran`: those that ran when it came, and are not gone."""

    def __init__(self, swarm: Swarm) -> None:
        self.applies = not any(map(swarm.has, _UNCERTAIN)) and swarm.has("profile")
        self._patience_s = swarm.options["patience_s"] if swarm.has("options") else 60.0
        self._budget = swarm.spec.max_num_batched_tokens
        self._next: RequestView | None = None
        self._turn_s = 0.0
        self._ran: set[str] = set()
        self._later: set[str] = set()  # those that wait and came after its turn
        self._given = 0  # tokens of theirs that were computed first

    def planned(self, now_s: float, seen: Snapshot) -> None:
        """Whose turn is it?"""
        waiting = seen.waiting
        overdue = ~waiting.rejectable & ~waiting.started
        overdue &= waiting.arrival_s < now_s - self._patience_s
        rows = np.flatnonzero(overdue)
        if not len(rows):
            self._next = None
            return
        view = waiting[int(rows[np.argmin(waiting.arrival_s[rows])])]
        if self._next is None or view.request_id != self._next.request_id:
            self._next, self._turn_s = view, now_s
            self._ran = {running.request_id for running in seen.running.views}
            self._ran |= {v.request_id for v, s in zip(waiting, waiting.started, strict=True) if s}
            self._given = 0
        self._ran &= {running.request_id for running in seen.running.views}
        later = np.flatnonzero(waiting.arrival_s > self._turn_s)
        self._later = {waiting[row].request_id for row in later.tolist()}

    def scheduled(self, step: SchedulerOutput, require: Require) -> None:
        """What did this step compute for those that came later?"""
        if self._next is None or self._ran:
            return
        if self._next.request_id in step.num_scheduled_tokens:
            self._next = None
            return
        for new in step.scheduled_new_reqs:
            if new.req_id in self._later:
                self._given += len(new.prompt_token_ids or ()) - new.num_computed_tokens
        most = self._next.prompt_tokens / SHARE + _STEPS * self._budget
        name, given = self._next.request_id, self._given
        require(given <= most, 15, f"{name} is overdue, {given} tokens of others came first")
