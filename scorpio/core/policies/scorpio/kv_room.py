"""Is there KV for one more request: for its prompt now, and for all answers at their peak?

Admission by the peak of KV, and by how much of it a request would hold for how long
(core/kv_forecast.py, learn/kv_price.py). Here a predicted length decides who joins.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.kv_forecast import KvForecast
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.learn.kv_price import kv_held
from scorpio.core.request import RequestView


class KvRoom:
    """KV of the batch and of those that join it in this step.

    free_tokens: beside the prompts of those that are in, unfinished ones included. first: a request
    that no other takes the room of; it joins as soon as its prompt fits, for with more asked of it
    one that outlasts the patience might wait for an empty engine.
    """

    def __init__(self, step: StepContext) -> None:
        self._step = step
        limits, running = step.snapshot.limits, step.snapshot.running
        self._pool, self._need = limits.kv_tokens, limits.kv_need
        self._joined: list[RequestView] = []
        context, left = _floats(running.context_tokens), _floats(running.prefill_left)
        to_come = self._need.grows(context, left)
        self.free_tokens = step.snapshot.kv_free_tokens - float(to_come.sum())
        self.first: RequestView | None = None

    def join(self, view: RequestView) -> None:
        """It takes its part."""
        self.free_tokens -= self.takes(view)
        self._joined.append(view)
        if "_forecast" in vars(self):
            self._forecast.add(_new_tokens(view), self._alive(view))
        if view is self.first:
            self.first = None

    def lacks(self, view: RequestView) -> bool:
        """Is there too little for it, beside what is kept for the one that comes first? While no
        request has a deadline only prompts count, as in stock vLLM: a preemption breaks nothing."""
        kept = 0.0 if self.first in (None, view) else self._need.of(self.first.prompt_tokens)
        if self.takes(view) >= self.free_tokens - kept:
            return True
        if view is self.first or not self._step.promised:
            return False
        return self._peak_with(view) + kept > self._step.options.kv_share * self._pool

    def takes(self, view: RequestView) -> float:
        """Of the pool, to begin with."""
        return self._need.of(_new_tokens(view))

    def dear(self, view: RequestView) -> bool:
        """Would it hold so much for so long that several others are lost for it? While KV is what
        all lack, such a request only takes what lies idle."""
        if self._step.kv_price == math.inf or view is self.first or not self._step.promised:
            return False
        output = np.array([self._step.lengths.expected_of(view)])
        held = float(kv_held(np.array([float(view.prompt_tokens)]), output, self._need)[0])
        if held <= self._step.kv_price * view.slo.value:
            return False
        return self._peak_with(view) > self._step.options.kv_dear_share * self._pool

    @property
    def lasts(self) -> bool:
        """Is there enough for all that are in, also when their answers have grown?"""
        if not self._step.promised:
            return True
        return self._forecast.peak_tokens() <= self._step.options.kv_share * self._pool

    def free_s(self, need: FloatArray) -> FloatArray:
        """Absolute time from which so many tokens will be free, of each, the least first. Beyond
        what is foreseen the pool is taken to be given back once in every mean answer."""
        most = self._step.options.kv_share * self._pool
        steps = self._forecast.steps_until(need, most)
        steps = np.where(np.isfinite(steps), steps, self._step.lengths.mean_tokens * need / most)
        steps = np.maximum.accumulate(steps)
        free_s: FloatArray = self._step.start_s + steps * self._step.usual_step_s()
        return free_s

    @cached_property
    def _forecast(self) -> KvForecast:
        """Made when it is first asked for: without a free seat nothing is. What several requests of
        the batch hold together counts once."""
        running = self._step.snapshot.running
        used = self._pool - self._step.snapshot.kv_free_tokens
        shared = max(float(self._need.of(_floats(running.context_tokens)).sum()) - used, 0.0)
        context = _floats(running.context_tokens + running.prefill_left)
        forecast = KvForecast(context, self._step.lengths.alive(running), shared, self._need)
        for view in self._joined:
            forecast.add(_new_tokens(view), self._alive(view))
        return forecast

    def _alive(self, view: RequestView) -> FloatArray:
        return self._step.lengths.alive_from_start(view)

    def _peak_with(self, view: RequestView) -> float:
        return self._forecast.peak_with(_new_tokens(view), self._alive(view))


def _new_tokens(view: RequestView) -> int:
    """Of its prompt, those that no running request holds already."""
    return view.prompt_tokens - view.held_tokens


def _floats(column: IntArray) -> FloatArray:
    return column.astype(np.float64)
