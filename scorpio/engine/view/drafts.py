"""Speculative decoding: how many tokens does a step give a request, and how many does it compute?

A decode computes its last token and its drafts, and yields those that are accepted and one more.
Policies count a decode as one token; what its drafts take of the token budget is taken off what
they see, and added again when a plan is carried out. A plan may have fewer drafts verified than
there are: a request then brings those to the step, which vLLM takes as it takes what a grammar has
cut. Line references are to vllm/v1/core/sched/scheduler.py (0.32.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from scorpio.core.drafts import DraftView
from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import EngineLimits
from scorpio.engine.view.running_table import Tracked

_FADE = 0.99  # of what was seen, with each step
_START = 0.6  # chance that a draft is accepted, before one was seen
_FORGOTTEN = 1e-3  # of what is believed, with each step
_PRIOR = 6.0  # drafts that the usual chance counts for in a request's own


class Drafts:
    """Of one engine. `on`: does it draft at all?"""

    def __init__(self, scheduler: AsyncScheduler) -> None:
        self.on = scheduler.num_spec_tokens > 0
        self._scheduler = scheduler
        # A runner that chooses by itself what it verifies says nothing of what it left out.
        chooses = "enable_adaptive_verification"
        self._hidden = getattr(scheduler.vllm_config.speculative_config, chooses, False)
        self._tokens = self._decodes = 0.0
        self._seen = _Acceptance(_PRIOR * _START, _PRIOR)
        self._each: dict[str, _Acceptance] = {}
        self._without: set[str] = set()  # of the last plan: none of their drafts is verified

    @property
    def tokens_per_step(self) -> float:
        """That a decode yields, on average of the last steps; one until something was seen."""
        return max(self._tokens / self._decodes, 1.0) if self._decodes else 1.0

    def executed(self, step: SchedulerOutput, answer: ModelRunnerOutput) -> None:
        """What came of it. Rows without a token are prompts that are not read to their end."""
        for request_id in step.finished_req_ids:
            self._each.pop(request_id, None)
        if not (self.on and step.num_scheduled_tokens):
            return
        counts = [len(tokens) for tokens in answer.sampled_token_ids or ()]
        self._tokens = _FADE * self._tokens + sum(counts)
        self._decodes = _FADE * self._decodes + sum(1 for count in counts if count)
        self._learn(step, dict(zip(answer.req_ids, counts, strict=False)))
        self._without.clear()

    def view(self) -> DraftView | None:
        """What a policy sees of it; None where nothing is drafted, or it cannot be learned."""
        if not self.on or self._hidden:
            return None
        running, usual = self._scheduler.running, self._seen.chance
        lookup = self._scheduler.dynamic_sd_lookup  # by requests in the batch
        most = lookup[len(running)] if lookup else self._scheduler.num_spec_tokens
        own = (self._each.get(request.request_id) for request in running)
        chances = (usual if seen is None else seen.beside(usual) for seen in own)
        return DraftView(
            most,
            np.array([len(request.spec_token_ids) for request in running], dtype=np.int64),
            np.fromiter(chances, dtype=np.float64, count=len(running)),
            usual,
            self.tokens_per_step,
        )

    def cut(self, verified: Sequence[int] | None) -> None:
        """So many drafts of each that runs go into this step, at most; None: all."""
        self._without.clear()
        if verified is None:
            return
        for request, most in zip(self._scheduler.running, verified, strict=True):
            if len(request.spec_token_ids) > most:
                # A new list: async scheduling has one of placeholders for all.
                request.spec_token_ids = request.spec_token_ids[:most]
            if not most:
                self._without.add(request.request_id)

    def _learn(self, step: SchedulerOutput, counts: Mapping[str, int]) -> None:
        """Of each decode that had drafts. Where it should have had some and there were none (no
        match in its text), the first counts as not accepted. A first step may be filled up with
        drafts that are none (:1372)."""
        first, drafted = _first_steps(step), step.scheduled_spec_decode_tokens
        always = self._scheduler.scheduler_config.async_scheduling
        self._seen.fade()
        for request_id, count in counts.items():
            drafts = len(drafted.get(request_id, ()))
            if not count or request_id in first:
                continue
            request = self._scheduler.requests.get(request_id)
            if not drafts and (always or request_id in self._without):
                continue
            if not drafts and (request is None or request.num_output_tokens <= count):
                continue  # the last part of its prompt
            accepted = min(count - 1, drafts)
            tried = accepted + (accepted < max(drafts, 1))
            self._seen.add(accepted, tried)
            if request is not None:
                self._each.setdefault(request_id, _Acceptance()).add(accepted, tried)

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


@dataclass(slots=True)
class _Acceptance:
    """Drafts that were looked at, and those of them that were accepted."""

    accepted: float = 0.0
    tried: float = 0.0

    @property
    def chance(self) -> float:
        return self.accepted / self.tried

    def beside(self, usual: float) -> float:
        """Its chance, where little was seen near the usual one."""
        return (self.accepted + _PRIOR * usual) / (self.tried + _PRIOR)

    def add(self, accepted: int, tried: int) -> None:
        self.accepted += accepted
        self.tried += tried

    def fade(self) -> None:
        """Of all requests those of late count, and never fewer than at the start. While none is
        verified the chance is forgotten, so that one day some are again."""
        keep = max(_FADE, min(_PRIOR / self.tried, 1.0))
        self.accepted *= keep
        self.tried *= keep
        self.accepted += _FORGOTTEN * (_START * self.tried - self.accepted)


def verified(step: SchedulerOutput) -> int:
    """Drafts in this step; what fills up the first step of a request counts as its prompt."""
    drafted = step.scheduled_spec_decode_tokens
    if not drafted:
        return 0
    first = _first_steps(step)
    return sum(len(tokens) for request_id, tokens in drafted.items() if request_id not in first)


def _first_steps(step: SchedulerOutput) -> set[str]:
    """Requests that start in it, or resume."""
    starting = {new.req_id for new in step.scheduled_new_reqs}
    return starting | step.scheduled_cached_reqs.resumed_req_ids


def _tokens(running: Iterable[Request]) -> int:
    return sum(len(request.spec_token_ids) for request in running)


def _may_have_one_left(known: Tracked) -> bool:
    """Of one that has begun, what is cached of its answer is not known."""
    return known.view.prefill_tokens <= 1 or not math.isnan(known.first_token_s)
