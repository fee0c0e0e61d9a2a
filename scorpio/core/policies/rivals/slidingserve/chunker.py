"""How many prompt tokens in this step, when the next one counts as well? SlidingServe's chunker.

The longest chunk now is not always the best: prompts that end in this step decode in the next one,
with a TPOT SLO of their own, and slack that is spent now is missing there. So this step and that
one are planned together: a ternary search over the tokens of this one, for the most per second
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scorpio.core.latency import StepModel
from scorpio.core.policies.rivals.backlog import Backlog, Job
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.snapshot import Snapshot
from scorpio.core.step_fill import StepFill

_GRAIN = 32  # tokens
_DIGITS = 6  # of tokens per second that count: the longer chunk now, when both are as good


@dataclass(frozen=True, slots=True)
class _Packed:
    """tokens: of prompts in a step. ended: so many jobs are done after it; part: tokens of the next
    one that are."""

    tokens: int
    ended: int
    part: int


@dataclass(frozen=True, slots=True)
class Window:
    """Two steps. limit_s: of the first. due_s: from its start until the token after the next is due
    of the decode that can wait least. target_s: TPOT SLO of each job."""

    model: StepModel
    step: StepTime
    limit_s: float
    token_budget: int
    jobs: Sequence[Job]
    target_s: Sequence[float]
    due_s: float

    @classmethod
    def of(
        cls, model: StepModel, backlog: Backlog, step: StepTime, limit_s: float, jobs: Sequence[Job]
    ) -> Window:
        """jobs: in the order in which they are served."""
        snapshot = backlog.snapshot
        slo_s = snapshot.running.tpot_slo_s[step.decodes.rows]
        kept = step.helpable & (slo_s > step.decodes.alone_s)
        due_s = float((step.slack_s + slo_s)[kept].min(initial=math.inf))
        target_s = [_target_s(snapshot, job) for job in jobs]
        return cls(model, step, limit_s, snapshot.limits.token_budget, jobs, target_s, due_s)

    def best_tokens(self) -> int:
        """Of prompts, in the first step."""
        now = self._pack(self._first(), _Packed(0, 0, 0), self.token_budget)
        top = now.tokens
        if now.ended == len(self.jobs):
            return top  # all there is: the next step has nothing to wait for
        low, high = 0, math.ceil(top / _GRAIN)
        while high - low > 2:
            third = (high - low) // 3
            left, right = _GRAIN * (low + third), _GRAIN * (high - third)
            if self.rate(left) > self.rate(right):
                high -= third
            else:
                low += third
        best = max(range(high, low - 1, -1), key=lambda grains: self.rate(_GRAIN * grains))
        return min(best * _GRAIN, top)

    def rate(self, tokens: int) -> float:
        """Prompt tokens per second of both steps, when the first has up to so many."""
        first, decodes = self._first(), self.step.decodes
        now = self._pack(first, _Packed(0, 0, 0), tokens)
        joined = self.jobs[: now.ended]
        context = decodes.context_tokens + sum(job.tokens + job.prefix_tokens for job in joined)
        theirs_s = [s for s in self.target_s[: now.ended] if s > decodes.alone_s]
        limit_s = min([self.due_s - first.time_s, *theirs_s])
        size = decodes.count + now.ended
        second = StepFill(self.model, limit_s, self.token_budget, size, context)
        then = self._pack(second, now, self.token_budget)
        tokens, time_s = now.tokens + then.tokens, first.time_s + second.time_s
        return round(tokens / max(time_s, 1e-9), _DIGITS)

    def _first(self) -> StepFill:
        decodes = self.step.decodes
        return StepFill(
            self.model, self.limit_s, self.token_budget, decodes.count, decodes.context_tokens
        )

    def _pack(self, fill: StepFill, after: _Packed, most: int) -> _Packed:
        """Up to `most` tokens of the jobs, from where `after` has left off."""
        tokens, at, part = 0, after.ended, after.part
        while at < len(self.jobs) and tokens < most:
            job = self.jobs[at]
            room = fill.fits(min(job.tokens - part, most - tokens), job.prefix_tokens + part)
            if room <= 0:
                break
            fill.add(room, job.prefix_tokens + part)
            tokens, part = tokens + room, part + room
            if part < job.tokens:
                break
            at, part = at + 1, 0
        return _Packed(tokens, at, part)


def _target_s(snapshot: Snapshot, job: Job) -> float:
    rows = snapshot.running if job.is_running else snapshot.waiting
    return float(rows.tpot_slo_s[job.row])
