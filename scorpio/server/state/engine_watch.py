"""Does the engine still work? Looked at from this process, because a hung engine cannot say.

Signs of life are outputs that arrive here and the progress in the status file. An engine that has
work and gives none is asked whether it is paused, a question that it answers between two steps:
silence with a reason is excused. As long as it does not answer, the promises that it can no longer
keep or refuse are ended here: a client with a deadline is told, whatever the engine does.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from scorpio.server.answers import Answer, error_answer
from scorpio.server.context import ServerContext
from scorpio.server.request.gate import ResponseGate
from scorpio.server.state.metrics import count_answered
from scorpio.server.state.silence import LEAST_SILENCE_S

logger = logging.getLogger("vllm.scorpio")
PERIOD_S = 0.5
FROZEN = "engine_frozen"
RETRY_AFTER_S = 5
END_S = 2.0  # for the last bytes of requests that are ended
_PROGRESS = ("last_progress_unix_s", "steps")  # of the status; the first that is there


class EngineWatch:
    """Looks twice a second; costs nothing else."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server
        self._question: asyncio.Task[Any] | None = None
        self._status_when_asked: object = None
        self._answers = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                try:
                    await self.look(time.monotonic())
                except Exception:  # watching must never end, nor take the server with it
                    logger.exception("Scorpio: the engine could not be looked at")
        finally:
            if self._question is not None:
                self._question.cancel()

    async def look(self, now_s: float) -> None:
        """One look; ends the requests that a frozen engine leaves without their answer."""
        server = self._server
        silence = server.silence
        sign = self._sign()
        # Once it hangs it hangs until it says something: requests that were ended here, or whose
        # clients left, are still its work.
        busy = self._has_work() or silence.silent_s >= LEAST_SILENCE_S
        silence.look(now_s, busy, sign)
        server.tell_others()
        if not busy or silence.silent_s < LEAST_SILENCE_S or server.engine.errored:
            return
        unanswered = self._question is not None and not self._question.done()
        if not unanswered:
            self._ask()
        elif silence.frozen(server.settings.stall_s) and server.policy != "fcfs":
            await self._end_late(now_s)

    def _has_work(self) -> bool:
        return bool(self._server.engine.get_num_unfinished_requests() > 0)

    def _sign(self) -> object:
        """What changes as long as the engine lives. Of several the one is looked at that has work
        and has said nothing for longest: the others' life says nothing of it."""
        self._take_answer(self._server.status.read())
        engines = self._server.status.by_engine()
        if len(engines) > 1:
            busy = [(e.get("heartbeat_unix_s", 0), i) for i, e in engines.items() if _busy(e)]
            if busy:
                return min(busy), self._answers
        progress = [_progress(engine) for engine in engines.values()]
        return self._server.flights.heard.outputs, progress, self._answers

    def _ask(self) -> None:
        self._status_when_asked = self._server.status.read()
        self._question = asyncio.create_task(self._server.engine.is_paused())

    def _take_answer(self, status: object) -> None:
        question = self._question
        if question is None or not question.done():
            return
        self._question = None
        if question.cancelled() or question.exception() is not None:
            return  # the engine is dead: vLLM says so itself
        if question.result() or not self._has_work():
            self._server.silence.excuse()
        elif status is self._status_when_asked:
            # It works and its status is not written (no run_dir, a full disk): all that shows an
            # engine at work on a long prompt is that it answers between two steps.
            self._answers += 1

    async def _end_late(self, now_s: float) -> None:
        flights = self._server.flights
        late = [g for g in flights.gates if g.ticket.deadline_s <= now_s and not g.ticket.tokens]
        for gate in late:
            gate.ticket.deadline_s = math.inf  # told once
            count_answered(self._server, 503, FROZEN)
        silent_s = self._server.silence.silent_s
        said = f"the deadline has passed, and the engine has said nothing for {silent_s:.0f} s"
        await end_requests(self._server, late, partial(unavailable, said, FROZEN))


def _progress(status: Mapping[str, Any]) -> object:
    return next((status[key] for key in _PROGRESS if key in status), None)


def _busy(status: Mapping[str, Any]) -> bool:
    return bool(status.get("unfinished")) and not status.get("paused")


async def end_requests(
    server: ServerContext,
    gates: Sequence[ResponseGate],
    answer: Callable[..., Answer],
) -> None:
    """`answer(anthropic=..., request_id=...)`, as an error event in a stream that has begun, and an
    abort of what the engine still does for it. Clients that do not read their last bytes are not
    waited for."""
    work: list[Coroutine[Any, Any, None]] = []
    for gate in gates:
        # In this order: what the abort makes vLLM say must find the gate closed.
        told = answer(anthropic=gate.anthropic, request_id=gate.ticket.request_id)
        work.append(gate.end(told))
        work.append(server.engine.abort(list(gate.ticket.request_ids)))
    if not work:
        return
    done, left = await asyncio.wait([asyncio.create_task(w) for w in work], timeout=END_S)
    for task in left:
        task.cancel()
    for task in done:
        if (error := task.exception()) is not None:
            logger.error("Scorpio: a request could not be ended", exc_info=error)


def refused_at_once(server: ServerContext, *, anthropic: bool) -> Answer | None:
    """For a new request that may be refused: 503 when the engine has stalled. Whatever else it is
    sent piles up before it."""
    if not server.stalled or server.policy == "fcfs":
        return None
    count_answered(server, 503, FROZEN)
    said = f"the engine has said nothing for {server.silent_s:.0f} s"
    return unavailable(said, FROZEN, anthropic=anthropic)


def unavailable(said: str, reason: str, *, anthropic: bool = False, request_id: str = "") -> Answer:
    """503 of this process itself: another server, or this one a little later."""
    headers = {"retry-after": str(RETRY_AFTER_S), "x-scorpio-reject-reason": reason}
    return error_answer(503, said, headers=headers, anthropic=anthropic, request_id=request_id)
