"""An engine that drafts: a runner that accepts some of the drafts, as a real one would."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from vllm.v1.outputs import DraftTokenIds

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler
from scorpio.twin.engine.drafting import DRAFT, DraftingRunner
from tests.engine.driver import Engine, VirtualScheduler


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
        self.runner = DraftingRunner(lambda _, drafts: self.random.randint(0, drafts))

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
