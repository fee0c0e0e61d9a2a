"""An engine that drafts: a runner that accepts some of the drafts, as a real one would."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from vllm.v1.outputs import DraftTokenIds

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import (
    STOP_TOKEN,
    AsyncScheduler,
    ModelRunnerOutput,
    SchedulerOutput,
)
from scorpio.twin.engine.runner import FakeRunner, StepWork
from tests.engine.driver import Engine, VirtualScheduler

DRAFT = 5  # a token id that no runner says


class DraftingRunner(FakeRunner):
    """accepted: of so many drafts, how many the model would have said too. Like the real one it
    knows by itself what was accepted; with async scheduling the scheduler does not yet."""

    def __init__(self, accepted: Callable[[int], int]) -> None:
        super().__init__()
        self._accepted = accepted
        self._known: dict[str, int] = {}  # of those that decode: tokens of prompt and answer

    def execute(self, step: SchedulerOutput) -> tuple[StepWork, ModelRunnerOutput]:
        anew = [new.req_id for new in step.scheduled_new_reqs]
        for request_id in (
            *step.finished_req_ids,
            *anew,
            *step.scheduled_cached_reqs.resumed_req_ids,
        ):
            self._known.pop(request_id, None)
        work, answer = super().execute(step)
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
            drafts = len(step.scheduled_spec_decode_tokens.get(request_id, ()))
            count = 1 + self._accepted(drafts)
            tokens = range(base + known, base + known + count)
            answer.sampled_token_ids[row] = [t if t != last else STOP_TOKEN for t in tokens]
            self._known[request_id] = known + count
        return work, answer


class DraftingEngine(Engine):
    """Engine of `spec.num_speculative_tokens`. Without async scheduling drafts come after each
    step, sometimes none, as with ngram."""

    def __init__(
        self,
        spec: EngineSpec,
        scorpio: Mapping[str, Any] | None = None,
        cls: type[AsyncScheduler] = VirtualScheduler,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, scorpio, cls)
        self.random = random.Random(seed)
        self.always = False  # are there drafts after each step?
        self.runner = DraftingRunner(lambda drafts: self.random.randint(0, drafts))

    def deliver(self) -> None:
        _, answer = self.in_flight[0]
        super().deliver()
        if self.spec.pipeline_depth == 1:
            ids = [
                i for i, said in zip(answer.req_ids, answer.sampled_token_ids, strict=True) if said
            ]
            most = self.spec.num_speculative_tokens
            drafts = [
                [DRAFT] * self.random.choice((most if self.always else 0, most, most)) for _ in ids
            ]
            self.scheduler.update_draft_token_ids(DraftTokenIds(ids, drafts))
