"""How does a refused request end? In vLLM's books at once, for its client with the next outputs.

`finish_requests()` tells the client nothing; without an output of ours it would hang for ever. So
all that can fail is done before it is called, and what it ended is answered whatever happens.

The answer is an abort with a `stop_reason` that our middleware reads. A front end without it makes
an empty success of that; from vLLM 0.33 on an output can be an error, which every front end tells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import vllm.outputs
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.request import Request, RequestStatus

from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.request import RequestView
from scorpio.core.wire import encode_rejection
from scorpio.engine.features import UnsupportedConfigError
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.view.sessions import parts_waiting


class Refusals:
    """Answers to refused requests that are still to be sent. as_errors: of the engine's own kind.

    Raises UnsupportedConfigError when this vLLM has none.
    """

    def __init__(self, as_errors: bool = False) -> None:
        if as_errors and "error" not in EngineCoreOutput.__struct_fields__:
            raise UnsupportedConfigError("refusals_as_errors needs vLLM 0.33 or later")
        self._as_errors = as_errors
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
            told.append((view, request, rejection.reason, self._said(rejection)))
        # vLLM ends them in the order of a set of strings, which differs between processes.
        told.sort(key=lambda entry: entry[0].seq)
        ids = [rejection.request_id for rejection in rejections]
        try:
            scheduler.finish_requests(ids, RequestStatus.FINISHED_ABORTED)
        finally:
            ended = [entry for entry in told if entry[1].is_finished()]
            for _, request, _, said in ended:
                answers = 1 + parts_waiting(request)
                for _ in range(answers):
                    self._answers.append((request.client_index, _answer(request, said)))
            for view, _, reason, _ in ended:
                count(view, reason)

    def _said(self, rejection: Rejection) -> dict[str, Any]:
        said: dict[str, Any] = {"stop_reason": encode_rejection(rejection)}
        if self._as_errors:
            error = vllm.outputs.RequestError(
                code="scorpio_refused",
                message=_sentence(rejection),
                retryable=not rejection.never,
            )
            said |= {"error": error, "finish_reason": FinishReason.ERROR}
        return said

    @property
    def unanswered(self) -> bool:
        """Is there an answer that is still to be sent?"""
        return bool(self._answers)

    def send(self, outputs: dict[int, EngineCoreOutputs]) -> None:
        """Add them to what goes out to the clients now."""
        for client_index, output in self._answers:
            if client_index not in outputs:
                outputs[client_index] = EngineCoreOutputs(outputs=[])
            outputs[client_index].outputs.append(output)
        self._answers.clear()


def _answer(request: Request, said: Mapping[str, Any]) -> EngineCoreOutput:
    how: dict[str, Any] = {"finish_reason": request.get_finished_reason(), **said}
    return EngineCoreOutput(
        request_id=request.request_id,
        new_token_ids=[],
        events=request.take_events(),
        trace_headers=request.trace_headers,
        **how,
    )


def _sentence(rejection: Rejection) -> str:
    """For a client that sees no header of ours."""
    if rejection.never:
        when = "not even an idle engine could keep the SLO"
    elif rejection.retry_after_s is None:
        when = "under this load no time to come back can be promised"
    else:
        when = f"retry after {rejection.retry_after_s:.1f} s"
    return f"refused: {rejection.reason.value}, {when} (request {rejection.request_id})"
