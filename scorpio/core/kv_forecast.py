"""How much KV will the running answers need at their peak?

Every answer adds a token of KV with each of its steps and gives all of it back when it ends. So a
batch that fits today may not fit later; then a request is preempted, and its work is done twice.
What counts is the largest of the moments to come: the idea of Past-Future (ASPLOS'25, arXiv
2507.10150), here with the chance that an answer still runs where it has one length for each.
"""

from __future__ import annotations

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.kv_need import FULL_ATTENTION, KvNeed

# Steps from now at which KV is looked at: near ones, and as far as answers last.
MOMENTS: FloatArray = np.array([0.0, *(round(16.0 * 1.5**k) for k in range(14))])
_CAUTION = 1.5  # standard deviations above what is expected


class KvForecast:
    """KV at each of `MOMENTS`, M of them: its expected tokens, and their variance."""

    def __init__(
        self,
        context_tokens: FloatArray,
        alive: FloatArray,
        shared_tokens: float,
        need: KvNeed = FULL_ATTENTION,
    ) -> None:
        """context_tokens, [B]: of each answer once its prompt is computed. alive, [B, M]: chance
        that it still runs. shared_tokens: counted in several contexts, and there once."""
        unsure = alive * (1.0 - alive)
        self._need = need
        if need.groups:
            held = need.of(context_tokens[:, None] + MOMENTS)
            self._expected = (held * alive).sum(axis=0) - shared_tokens
            self._variance = (held**2 * unsure).sum(axis=0)
            return
        once, alone = alive.sum(axis=0), unsure.sum(axis=0)
        self._expected = context_tokens @ alive + MOMENTS * once - shared_tokens
        self._variance = (context_tokens**2) @ unsure + MOMENTS * (
            2.0 * (context_tokens @ unsure) + MOMENTS * alone
        )

    def peak_tokens(self) -> float:
        """What is in use at the most, in all likelihood."""
        return float(_likely(self._expected, self._variance).max())

    def peak_with(self, context: float, alive: FloatArray) -> float:
        """The same with one more answer: tokens of its prompt, and its chances, [M]."""
        more, variance = self._one_more(context, alive)
        return float(_likely(self._expected + more, self._variance + variance).max())

    def steps_until(self, need: FloatArray, pool_tokens: float) -> FloatArray:
        """Steps until so many tokens of the pool are free and stay so, of each: a moment of
        `MOMENTS`, or inf when that is not foreseen. Shape [n]."""
        used = _likely(self._expected, self._variance)
        free = pool_tokens - np.maximum.accumulate(used[::-1])[::-1]
        at = np.searchsorted(free, need)
        steps: FloatArray = np.append(MOMENTS, np.inf)[at]
        return steps

    def add(self, context: float, alive: FloatArray) -> None:
        """It runs."""
        more, variance = self._one_more(context, alive)
        self._expected = self._expected + more
        self._variance = self._variance + variance

    def _one_more(self, context: float, alive: FloatArray) -> tuple[FloatArray, FloatArray]:
        held = self._need.of(context + MOMENTS)
        expected: FloatArray = held * alive
        return expected, expected * held * (1.0 - alive)


def _likely(expected: FloatArray, variance: FloatArray) -> FloatArray:
    """What is in use at each moment, in all likelihood no more."""
    likely: FloatArray = expected + _CAUTION * np.sqrt(np.maximum(variance, 0.0))
    return likely
