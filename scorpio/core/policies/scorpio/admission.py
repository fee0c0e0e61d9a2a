"""Which TPOT targets can the batch keep? TPOT guard at admission.

The virtual-batch-size test of SCORPIO (arXiv 2505.23022) in utilisation form: a step of all
decodes, with the newcomer's context half grown, must take no more than the newcomer's TPOT SLO.
The TPOT targets of those that are in already are kept step by step: without slack there is no
prefill. A tighter one means more steps, and a part of each is spent on nothing: a request whose
TPOT target would waste most of the engine so does not join the others.
"""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.arrays import BoolArray
from scorpio.core.lora import AdapterPlaces
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.deficit import SHARE
from scorpio.core.policies.scorpio.kv_room import KvRoom
from scorpio.core.request import RequestView
from scorpio.core.waiting import WaitingTable


def wasteful(step: StepContext, target_s: float, tightest_s: float) -> bool:
    """Would this TPOT target, tighter than the batch's, spend too much of the engine on the fixed
    part of steps? A request that asks for it does not join the others."""
    return target_s < tightest_s and target_s < step.least_target_s


class Admission:
    """The running batch, and those that join it in this step."""

    def __init__(self, step: StepContext) -> None:
        snapshot, running = step.snapshot, step.snapshot.running
        self._step, self._model = step, step.model
        self._members = len(running)
        self._room = snapshot.limits.max_num_seqs - len(running)
        self._context = float(running.context_tokens.sum())
        self.kv = KvRoom(step)
        self._tightest_s = step.decodes.tightest_s
        self._adapters = AdapterPlaces(snapshot)
        self._limits = snapshot.limits
        timely = np.fmin(running.first_token_s, step.start_s) <= running.deadline_s
        timely &= np.isfinite(running.deadline_s)
        self._behind = len(running) - int(np.count_nonzero(timely))

    @classmethod
    def of_all(cls, step: StepContext) -> Admission:
        """The batch of a stock step, which lets all that wait in."""
        batch = cls(step)
        for view in step.snapshot.waiting:
            batch.join(view)
        return batch

    @property
    def full(self) -> bool:
        """No seat is left."""
        return self._room <= 0

    def takes(self, view: RequestView, bound: bool = True, behind: bool = False) -> bool:
        """May this request join? bound: only when its own TPOT SLO is kept. behind: only where it
        leaves room for those that can still be good."""
        if self._members == 0:
            return True
        if behind and self._step.promised and not self._leaves_room(view):
            return False
        if self.full or not self._adapters.free_for(view):
            return False
        if bound and not self.keeps_target(view):
            return False
        return not (self.kv.lacks(view) or self.kv.dear(view))

    def keep_for(self, view: RequestView) -> None:
        """From now on no request that joins takes the blocks that this one needs, nor an adapter's
        place from it, until it has joined itself. One at a time: the first that is named."""
        if self.kv.first is None:
            self.kv.first = view
            self._adapters.keep_for(view)

    def keeps_target(self, view: RequestView) -> bool:
        """Would its own TPOT SLO be kept beside those that are in?"""
        if self._members == 0:
            return True
        target_s = self._target_s(view)
        return self._grown_s(view) <= target_s and not wasteful(
            self._step, target_s, self._tightest_s
        )

    def out_of_target(self, waiting: WaitingTable) -> BoolArray | None:
        """Rows whose own TPOT SLO is not kept beside those that are in, whichever else join. None:
        not one, or a queue so short that each can be asked."""
        if self._members == 0 or len(waiting) <= self._step.options.scan_requests:
            return None
        every_s = self._step.snapshot.between_steps_s(waiting.tpot_slo_s)
        prompts = waiting.prompt_tokens
        token_s, grown_s = self._model.context_token_s, self._grown_by_s(0.0)
        if every_s.min() >= grown_s + token_s * prompts.max():
            return None
        binds = (every_s >= self._model.step_s(1, 0.0) + token_s * prompts) & ~waiting.started
        binds &= waiting.deadline_s >= self._step.start_s
        rows: BoolArray = binds & (every_s < grown_s + token_s * prompts)
        return rows

    def tpot_s(self) -> float:
        """What its members may expect: steps stretched by prefill, up to the kept target."""
        step_s = self._model.step_s(self._members, self._context)
        stretched_s = min(step_s / (1.0 - self._step.prefill_share), self._tightest_s)
        drafts = self._step.snapshot.drafts
        return max(step_s, stretched_s) / (1.0 if drafts is None else drafts.tokens_per_step)

    def join(self, view: RequestView, bound: bool = True, behind: bool = False) -> None:
        """It does."""
        self._behind += behind
        self._members += 1
        self._room -= 1
        self._context += view.prompt_tokens
        self.kv.join(view)
        self._adapters.take(view)
        if bound:
            self._tightest_s = min(self._tightest_s, self._target_s(view))

    def _target_s(self, view: RequestView) -> float:
        alone_s = self._model.step_s(1, view.prompt_tokens)
        every_s = self._step.snapshot.between_steps_s(view.slo.tpot_s)
        binds = every_s >= alone_s and view.deadline_s >= self._step.start_s
        return every_s if binds else math.inf

    def _grown_s(self, view: RequestView) -> float:
        """A step of all decodes and this one's, its context half grown."""
        length = view.predicted_output_tokens
        if not math.isfinite(length):
            length = min(self._step.lengths.mean_tokens, view.max_tokens)
        return self._grown_by_s(view.prompt_tokens + 0.5 * length)

    def _grown_by_s(self, tokens: float) -> float:
        drafts = self._step.snapshot.drafts
        more = 1 if drafts is None else 1 + drafts.most
        computed = self._members + more + self._step.decodes.draft_tokens
        return self._model.step_s(computed, self._context + tokens)

    def _leaves_room(self, view: RequestView) -> bool:
        """Of seats, free KV and the tightest target, for those to come whose promise can be kept?
        Those behind always may be their share of the batch, and one at a time all of the KV."""
        most = self._limits.max_num_seqs
        kv_left = self.kv.free_tokens - self._limits.kv_need.of(view.prompt_tokens)
        if view is not self.kv.first and kv_left < SHARE * self._limits.kv_tokens:
            return False
        if self._behind < SHARE * self._members:
            return True
        spare_s = (1.0 - SHARE) * self._tightest_s
        return self._room > SHARE * most and self._grown_s(view) <= spare_s
