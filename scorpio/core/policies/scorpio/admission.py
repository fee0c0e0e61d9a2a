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
from scorpio.core.kv_forecast import KvForecast
from scorpio.core.lora import AdapterPlaces
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.deficit import SHARE
from scorpio.core.policies.scorpio.learn.kv_price import kv_held
from scorpio.core.request import RequestView
from scorpio.core.waiting import WaitingTable


def wasteful(step: StepContext, target_s: float, tightest_s: float) -> bool:
    """Would this TPOT target, tighter than the batch's, spend too much of the engine on the fixed
    part of steps? A request that asks for it does not join the others."""
    return target_s < tightest_s and step.fixed_s > step.options.fixed_share * target_s


def _kv_forecast(step: StepContext) -> KvForecast:
    """Of the batch as it is; what several of its requests hold together counts once."""
    running, snapshot = step.snapshot.running, step.snapshot
    used = snapshot.limits.kv_tokens - snapshot.kv_free_tokens
    shared = max(float(running.context_tokens.sum()) - used, 0.0)
    context = (running.context_tokens + running.prefill_left).astype(np.float64)
    return KvForecast(context, step.lengths.alive(running), shared)


class Admission:
    """The running batch, and those that join it in this step."""

    def __init__(self, step: StepContext) -> None:
        snapshot, running = step.snapshot, step.snapshot.running
        self._step, self._model = step, step.model
        self._members = len(running)
        self._room = snapshot.limits.max_num_seqs - len(running)
        self._context = float(running.context_tokens.sum())
        # Unfinished prefills come first: what they still need is not free.
        self._kv_left = snapshot.kv_free_tokens - float(running.prefill_left.sum())
        self._tightest_s = step.decodes.tightest_s
        self._kv = _kv_forecast(step)
        self._adapters = AdapterPlaces(snapshot)
        self._first: RequestView | None = None  # its place is kept free
        self._limits = snapshot.limits
        timely = np.fmin(running.first_token_s, step.start_s) <= running.deadline_s
        timely &= np.isfinite(running.deadline_s)
        self._behind = len(running) - int(np.count_nonzero(timely))

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
        if (
            self.full
            or self.lacks_kv(view)
            or self._dear(view)
            or not self._adapters.free_for(view)
        ):
            return False
        return not bound or self.keeps_target(view)

    def lacks_kv(self, view: RequestView) -> bool:
        """Is there too little free KV for it, beside what is kept for the one that comes first?"""
        kept = 0 if self._first in (None, view) else self._first.prompt_tokens
        need = view.prompt_tokens - view.held_tokens
        if need >= self._kv_left - kept:
            return True
        if view is self._first:
            return False  # or one that outlasts the patience might wait for an empty engine
        return self._peak_with(view) + kept > self._step.options.kv_share * self._limits.kv_tokens

    @property
    def fits(self) -> bool:
        """Will there be KV for all that are in, also when their answers have grown?"""
        return self._kv.peak_tokens() <= self._step.options.kv_share * self._limits.kv_tokens

    def _dear(self, view: RequestView) -> bool:
        """Would it hold so much KV that several others are lost for it? While KV is what all lack,
        such a request only takes what lies idle."""
        if self._step.kv_price == math.inf or view is self._first:
            return False
        output = self._step.lengths.expected(np.array([view.predicted_output_tokens]))
        held = float(kv_held(np.array([float(view.prompt_tokens)]), output)[0])
        if held <= self._step.kv_price * view.slo.value:
            return False
        most = self._step.options.kv_dear_share * self._limits.kv_tokens
        return self._peak_with(view) > most

    def _peak_with(self, view: RequestView) -> float:
        alive = self._step.lengths.alive_from_start(view)
        return self._kv.peak_with(view.prompt_tokens - view.held_tokens, alive)

    def keep_for(self, view: RequestView) -> None:
        """From now on no request that joins takes the blocks that this one needs, nor an adapter's
        place from it, until it has joined itself. One at a time: the first that is named."""
        if self._first is None:
            self._first = view
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
        tpot_s, prompts = waiting.tpot_slo_s, waiting.prompt_tokens
        token_s, grown_s = self._model.context_token_s, self._grown_by_s(0.0)
        if tpot_s.min() >= grown_s + token_s * prompts.max():
            return None
        binds = (tpot_s >= self._model.step_s(1, 0.0) + token_s * prompts) & ~waiting.started
        binds &= waiting.deadline_s >= self._step.start_s
        rows: BoolArray = binds & (tpot_s < grown_s + token_s * prompts)
        return rows

    def tpot_s(self) -> float:
        """The step its members may expect: stretched by prefill, up to the target that is kept."""
        step_s = self._model.step_s(self._members, self._context)
        return max(step_s, min(step_s / (1.0 - self._step.prefill_share), self._tightest_s))

    def join(self, view: RequestView, bound: bool = True, behind: bool = False) -> None:
        """It does."""
        self._behind += behind
        self._members += 1
        self._room -= 1
        self._kv_left -= view.prompt_tokens - view.held_tokens
        self._context += view.prompt_tokens
        alive = self._step.lengths.alive_from_start(view)
        self._kv.add(view.prompt_tokens - view.held_tokens, alive)
        self._adapters.take(view)
        if view is self._first:
            self._first = None
        if bound:
            self._tightest_s = min(self._tightest_s, self._target_s(view))

    def _target_s(self, view: RequestView) -> float:
        alone_s = self._model.step_s(1, view.prompt_tokens)
        binds = view.slo.tpot_s >= alone_s and view.deadline_s >= self._step.start_s
        return view.slo.tpot_s if binds else math.inf

    def _grown_s(self, view: RequestView) -> float:
        """A step of all decodes and this one's, its context half grown."""
        length = view.predicted_output_tokens
        if not math.isfinite(length):
            length = min(self._step.lengths.mean_tokens, view.max_tokens)
        return self._grown_by_s(view.prompt_tokens + 0.5 * length)

    def _grown_by_s(self, tokens: float) -> float:
        return self._model.step_s(self._members + 1, self._context + tokens)

    def _leaves_room(self, view: RequestView) -> bool:
        """Of seats, free KV and the tightest target, for those to come whose promise can be kept?
        Those behind always may be their share of the batch, and one at a time all of the KV."""
        most, kv_left = self._limits.max_num_seqs, self._kv_left - view.prompt_tokens
        if view is not self._first and kv_left < SHARE * self._limits.kv_tokens:
            return False
        if self._behind < SHARE * self._members:
            return True
        spare_s = (1.0 - SHARE) * self._tightest_s
        return self._room > SHARE * most and self._grown_s(view) <= spare_s
