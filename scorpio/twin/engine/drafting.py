"""What would a GPU that drafts have answered? A runner that accepts drafts by chance.

Like the real one it knows by itself what was accepted; with async scheduling the scheduler does
not yet when it plans the next step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from scorpio.engine.virtual.requests import STOP_TOKEN, ModelRunnerOutput, SchedulerOutput
from scorpio.twin.engine.runner import FakeRunner, StepWork

DRAFT = 5  # a token id that no runner says
Accepted = Callable[[str, int], int]  # of so many drafts of this request, how many are


class DraftingRunner(FakeRunner):
    """A step gives a request one token and its accepted drafts."""

    def __init__(self, accepted: Accepted) -> None:
        super().__init__()
        self._accepted = accepted
        self._known: dict[str, int] = {}  # of those that decode: tokens of prompt and answer

    def execute(self, step: SchedulerOutput) -> tuple[StepWork, ModelRunnerOutput]:
        """Run one step."""
        anew = [new.req_id for new in step.scheduled_new_reqs]
        resumed = step.scheduled_cached_reqs.resumed_req_ids
        for request_id in (*step.finished_req_ids, *anew, *resumed):
            self._known.pop(request_id, None)
        work, answer = super().execute(step)
        drafted = step.scheduled_spec_decode_tokens
        verified = 0
        for row, request_id in enumerate(answer.req_ids):
            said = answer.sampled_token_ids[row]
            if not said:
                continue
            base, last = self._base[request_id], self._last[request_id]
            known = self._known.get(request_id)
            if known is None:  # its prompt is read
                token = last if said[0] == STOP_TOKEN else said[0]
                self._known[request_id] = token - base + 1
                continue
            drafts = len(drafted.get(request_id, ()))
            verified += drafts
            count = 1 + self._accepted(request_id, drafts)
            tokens = range(base + known, base + known + count)
            answer.sampled_token_ids[row] = [t if t != last else STOP_TOKEN for t in tokens]
            self._known[request_id] = known + count
        return replace(work, draft_tokens=verified), answer
