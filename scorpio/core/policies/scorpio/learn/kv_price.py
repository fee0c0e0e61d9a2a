"""Which requests hold so much KV for so long that others are lost for them?

A request holds its prompt and, on average, half of its answer for as many steps as the answer has
tokens. While more KV is asked for than there is, most promises are kept by those that hold least.
So the demand of the last half minute, cheapest first, is laid beside the pool: where the pool is
used up stands the price, and who asks for more is dear.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.kv_need import FULL_ATTENTION, KvNeed
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.waiting import WaitingTable

_WINDOW_S = 30.0
_MOST = 512  # requests looked back at
_USABLE = 0.8  # of the pool: not every block is held at every moment


class _Asked(NamedTuple):
    arrival_s: float
    held: float  # token-steps of KV
    value: float


def kv_held(
    prompt_tokens: FloatArray, output_tokens: FloatArray, need: KvNeed = FULL_ATTENTION
) -> FloatArray:
    """Token-steps of KV that requests hold, shape [n]."""
    held: FloatArray = need.of(prompt_tokens + 0.5 * output_tokens) * output_tokens
    return held


class KvPrice:
    """price: token-steps of KV for one unit of value; inf while there is enough for all."""

    def __init__(self, kv_tokens: int, need: KvNeed = FULL_ATTENTION) -> None:
        self.price = math.inf
        self._kv_tokens, self._need = kv_tokens, need
        self._asked: deque[_Asked] = deque(maxlen=_MOST)
        self._last_seq = -1

    def follow(
        self, now_s: float, waiting: WaitingTable, lengths: LengthBelief, step_s: float
    ) -> None:
        """Who has come, and what has become of the price? step_s: how long a step takes now."""
        come = waiting.newest_seq > self._last_seq
        if come:
            self._book(waiting, lengths)
        over = 0
        while self._asked and self._asked[0].arrival_s < now_s - _WINDOW_S:
            self._asked.popleft()
            over += 1
        if come or over:
            self.price = self._price(now_s, step_s)

    def _book(self, waiting: WaitingTable, lengths: LengthBelief) -> None:
        rows = (waiting.seqs() > self._last_seq).nonzero()[0][-_MOST:]
        self._last_seq = waiting.newest_seq
        output = lengths.expected(waiting.predicted_output_tokens[rows], waiting.max_tokens[rows])
        held = kv_held(waiting.prompt_tokens[rows], output, self._need)
        value = waiting.value[rows]
        asked = (waiting.arrival_s[rows].tolist(), held.tolist(), value.tolist())
        self._asked.extend(_Asked(*one) for one in zip(*asked, strict=True))

    def _price(self, now_s: float, step_s: float) -> float:
        if not self._asked:
            return math.inf
        arrival_s, held, value = np.array(self._asked).T
        full = len(self._asked) == _MOST
        span_s = max(now_s - float(arrival_s[0]), 1e-3) if full else _WINDOW_S
        each = held / value
        order = np.argsort(each)
        tokens = np.cumsum(held[order]) * step_s / span_s  # held at any time by those up to here
        used = int(np.searchsorted(tokens, _USABLE * self._kv_tokens))
        return float(each[order][used]) if used < len(each) else math.inf
