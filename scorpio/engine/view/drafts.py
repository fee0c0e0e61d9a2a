"""Speculative decoding: how many tokens does a step give a request, and how many does it compute?

A decode computes its last token and its drafts, and yields those that are accepted and one more.
Policies count a decode as one token; what its drafts take of the token budget is taken off what
they see, and added again when a plan is carried out. Line references are to
vllm/v1/core/sched/scheduler.py (0.32.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import EngineLimits
from scorpio.engine.view.running_table import Tracked

_FADE = 0.99  # of what was seen, with each step


class Drafts:
    """Of one engine. `on`: does it draft at all?"""

    def __init__(self, scheduler: AsyncScheduler) -> None:
        self.on = scheduler.num_spec_tokens > 0
        self._scheduler = scheduler
        self._tokens = self._decodes = 0.0

    @property
    def tokens_per_step(self) -> float:
        """That a decode yields, on average of the last steps; one until something was seen."""
        return max(self._tokens / self._decodes, 1.0) if self._decodes else 1.0

    def executed(self, step: SchedulerOutput, answer: ModelRunnerOutput) -> None:
        """What came of it. Rows without a token are prompts that are not read to their end."""
        if not (self.on and step.num_scheduled_tokens):
            return
        counts = [len(tokens) for tokens in answer.sampled_token_ids or ()]
        self._tokens = _FADE * self._tokens + sum(counts)
        self._decodes = _FADE * self._decodes + sum(1 for count in counts if count)

    def beside(
        self, plan: StepPlan, starting: Sequence[str] | None, tracked: Mapping[str, Tracked]
    ) -> int:
        """Tokens that drafts add to this step: those of all that run and do not sit out (:839), and
        once what fills up the first step of a request with one token to compute: without room for
        that vLLM does not start it (:1143). starting: None = all that wait."""
        if not self.on:
            return 0
        sits_out = {*plan.skip_decode, *plan.defer_prefill}
        running = enumerate(self._scheduler.running)
        tokens = _tokens(request for row, request in running if row not in sits_out)
        padded = starting is None or any(_may_have_one_left(tracked[i]) for i in starting)
        return tokens + (self._scheduler.num_spec_tokens if padded else 0)

    def left(self, limits: EngineLimits) -> EngineLimits:
        """The limits without what drafts take; there is always room for a token of each."""
        if not self.on:
            return limits
        running = self._scheduler.running
        least = min(len(running) + 1, limits.token_budget)
        return replace(limits, token_budget=max(limits.token_budget - _tokens(running), least))

    def skipped(self, request: Request) -> None:
        """It sits a step out. A worker of the V1 runner forgets its drafts then, and the
        placeholders that async scheduling has for them mean nothing any more."""
        scheduler = self._scheduler
        if scheduler.scheduler_config.async_scheduling and not scheduler.use_v2_model_runner:
            request.spec_token_ids = []


def _tokens(running: Iterable[Request]) -> int:
    return sum(len(request.spec_token_ids) for request in running)


def _may_have_one_left(known: Tracked) -> bool:
    """Of one that has begun, what is cached of its answer is not known."""
    return known.view.prefill_tokens <= 1 or not math.isnan(known.first_token_s)
