"""How does a refused request end? In vLLM's books at once, for its client with the next outputs.

`finish_requests()` tells the client nothing; without an output of ours it would hang for ever. So
all that can fail is done before it is called, and what it ended is answered whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.request import Request, RequestStatus

from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.request import RequestView
from scorpio.core.wire import encode_rejection
from scorpio.engine.running_table import Tracked
from scorpio.engine.sessions import parts_waiting


class Refusals:
    """Answers to refused requests that are still to be sent."""

    def __init__(self) -> None:
        self._answers: list[tuple[int, EngineCoreOutput]] = []

    def refuse(
        self,
        scheduler: AsyncScheduler,
        rejections: Collection[Rejection],
        tracked: Mapping[str, Tracked],
        count: Callable[[RequestView, RejectReason], None],
    ) -> None:
        """End these, keep an answer for each. count: is told of each that was refused."""
        told = []
        for rejection in rejections:
            view = tracked[rejection.request_id].view
            request = scheduler.requests[rejection.request_id]
            told.append((view, request, rejection.reason, encode_rejection(rejection)))
        # vLLM ends them in the order of a set of strings, which differs between processes.
        told.sort(key=lambda entry: entry[0].seq)
        ids = [rejection.request_id for rejection in rejections]
        try:
            scheduler.finish_requests(ids, RequestStatus.FINISHED_ABORTED)
        finally:
            ended = [entry for entry in told if entry[1].is_finished()]
            for _, request, _, stop_reason in ended:
                answers = 1 + parts_waiting(request)
                for _ in range(answers):
                    self._answers.append((request.client_index, _answer(request, stop_reason)))
            for view, _, reason, _ in ended:
                count(view, reason)

    def send(self, outputs: dict[int, EngineCoreOutputs]) -> None:
        """Add them to what goes out to the clients now."""
        for client_index, output in self._answers:
            if client_index not in outputs:
                outputs[client_index] = EngineCoreOutputs(outputs=[])
            outputs[client_index].outputs.append(output)
        self._answers.clear()


def _answer(request: Request, stop_reason: str) -> EngineCoreOutput:
    return EngineCoreOutput(
        request_id=request.request_id,
        new_token_ids=[],
        finish_reason=request.get_finished_reason(),
        stop_reason=stop_reason,
        events=request.take_events(),
        trace_headers=request.trace_headers,
    )
