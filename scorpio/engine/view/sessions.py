"""Which sessions were refused, and what is said to those of their parts that are still to come?

The input of a session comes in parts, and vLLM's API process waits for one answer to each, whatever
was answered before: it cannot end a session early, and to the engine the next part of one it does
not know any more is a new request.
"""

from __future__ import annotations

from collections import OrderedDict

from vllm.v1.request import Request

from scorpio.core.plan import Rejection

_REMEMBERED = 4096  # sessions whose client may still be sending


class RefusedSessions:
    """By request id, what each was told."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, Rejection] = OrderedDict()

    def refused(self, request: Request, rejection: Rejection) -> None:
        """A request was; nothing to remember unless more of it may come."""
        if not request.resumable:
            self._told.pop(request.request_id, None)
            return
        self._told[request.request_id] = rejection
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)

    def refusal_of(self, request_id: str) -> Rejection | None:
        """For a part of a session that was refused before it came."""
        return self._told.get(request_id)


def parts_waiting(request: Request) -> int:
    """Inputs that wait behind the one of now; each has an answer of its own."""
    return sum(part is not None for part in request.streaming_queue or ())
