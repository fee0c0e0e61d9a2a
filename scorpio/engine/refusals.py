"""How does a refused request end? In vLLM's books at once, for its client with the next outputs.

`finish_requests()` tells the client nothing; without an output of ours it would hang for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.request import Request

from scorpio.core.plan import Rejection
from scorpio.core.views import RequestView
from scorpio.core.wire import encode_rejection


class Refusals:
    """Answers to refused requests that are still to be sent."""

    def __init__(self) -> None:
        self._answers: list[tuple[int, EngineCoreOutput]] = []

    def answer(
        self,
        finished: Iterable[Request],
        rejections: Mapping[str, Rejection],
        views: Mapping[str, RequestView],
    ) -> None:
        """Keep an answer for each of these, which vLLM has finished already."""
        # vLLM ends them in the order of a set of strings, which differs between processes.
        for request in sorted(finished, key=lambda request: views[request.request_id].seq):
            output = EngineCoreOutput(
                request_id=request.request_id,
                new_token_ids=[],
                finish_reason=request.get_finished_reason(),
                stop_reason=encode_rejection(rejections[request.request_id]),
                events=request.take_events(),
                trace_headers=request.trace_headers,
            )
            self._answers.append((request.client_index, output))

    def send(self, outputs: dict[int, EngineCoreOutputs]) -> None:
        """Add them to what goes out to the clients now."""
        for client_index, output in self._answers:
            if client_index not in outputs:
                outputs[client_index] = EngineCoreOutputs(outputs=[])
            outputs[client_index].outputs.append(output)
        self._answers.clear()
