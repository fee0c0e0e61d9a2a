"""Which requests does the engine serve, and what has each seen so far? From arrival to the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request

from scorpio.core.plan import Forecast
from scorpio.core.request import RequestView
from scorpio.core.snapshot import RunningBatch
from scorpio.engine.caps import account
from scorpio.engine.view.running_table import RunningTable, Tracked


class Tracker:
    """`live`: all of vLLM's `requests`, by id; one that leaves the engine leaves it at once."""

    def __init__(self, max_num_seqs: int, drafts: bool = False) -> None:
        self.live: dict[str, Tracked] = {}
        self.in_flight: Counter[str] = Counter()  # by account; without zeros
        self._awaiting_first: dict[str, Request] = {}
        self._table = RunningTable(max_num_seqs, drafts)

    @property
    def ids(self) -> set[str]:
        """All that any table here still holds."""
        return self.live.keys() | self._awaiting_first.keys()

    def arrived(self, view: RequestView) -> None:
        """From now on it is known."""
        self.live[view.request_id] = Tracked(view)
        self.in_flight[account(view)] += 1

    def ended(self, request_id: str) -> Tracked | None:
        """Forget it; None when it was not known."""
        self._awaiting_first.pop(request_id, None)
        tracked = self.live.pop(request_id, None)
        if tracked is not None:
            name = account(tracked.view)
            self.in_flight[name] -= 1
            if not self.in_flight[name]:
                del self.in_flight[name]
        return tracked

    def batch(self, running: list[Request]) -> RunningBatch:
        """The running list as columns."""
        return self._table.refresh(running, self.live)

    def scheduled(self, output: SchedulerOutput, requests: Mapping[str, Request]) -> None:
        """One that starts in this step will have a first token."""
        for new in output.scheduled_new_reqs:  # the V2 runner lists resumed ones here too
            if math.isnan(self.live[new.req_id].first_token_s):
                self._awaiting_first[new.req_id] = requests[new.req_id]

    def forecast(self, forecasts: Iterable[Forecast]) -> None:
        """The latest forecast counts; one for an unknown request is ignored."""
        for forecast in forecasts:
            tracked = self.live.get(forecast.request_id)
            if tracked is not None:
                tracked.forecast = forecast

    def outputs_came(self, now_s: float) -> None:
        """Note the first tokens among them."""
        for request_id, request in list(self._awaiting_first.items()):
            if request.num_output_tokens > 0:
                del self._awaiting_first[request_id]
                self.live[request_id].first_token_s = now_s
                self._table.first_token(request_id, now_s)
