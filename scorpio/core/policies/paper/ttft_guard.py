"""Which requests can no longer get a first token in time? The published TTFT guard.

Source: arXiv 2505.23022, TTFT Guard: waiting requests in least-deadline-first order; the
estimated TTFT of one is the prefill time of all tokens queued before it plus its own, and it is
refused when that passes its deadline. A refused one does not count for those behind it. The
margin (50 ms) is the public artefact's. Prefill that has begun and is not finished is queued
before all others; the artefact never chunks, so there it cannot occur.

The walk is done in tokens, not seconds: a deadline allows some number of tokens before the first
token is due, and a request misses when more than that are queued up to and including its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.latency import PrefillModel

_CHUNK = 256
_NO_ROWS: IntArray = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class TtftGuard:
    """`model` gives prefill time, `margin_s` is added to every estimate."""

    model: PrefillModel
    margin_s: float

    def missing(
        self,
        now_s: float,
        tokens_ahead: float,
        deadline_s: FloatArray,
        prompt_tokens: FloatArray,
        may_miss: BoolArray,
    ) -> IntArray:
        """Rows that miss their deadline, ascending.

        `deadline_s` ascends. Rows where `may_miss` is False stay, late or not, and count for
        those behind. No row costs Python time unless it would be late if none were refused.
        """
        late_after_s = now_s + self.margin_s
        # A request due after the whole queue has drained is not late. Repeat on what is left:
        # nothing about a row depends on the rows behind it.
        end, before = len(deadline_s), -1
        while 0 < end != before:
            before = end
            queued = tokens_ahead + float(prompt_tokens[:end].sum())
            drained_s = late_after_s + self.model.prefill_s(queued)
            end = int(deadline_s[:end].searchsorted(drained_s))
            if end > before // 2:
                break
        if end == 0:
            return _NO_ROWS
        allowed = self.model.tokens_within(deadline_s[:end] - late_after_s)
        return _walk(allowed - tokens_ahead, prompt_tokens[:end], may_miss[:end])

    def estimates_s(
        self, tokens_ahead: float, prompt_tokens: FloatArray, missing: IntArray, own: FloatArray
    ) -> FloatArray:
        """Estimated TTFT, counted from now, of each missing row behind the rows that stay, if it
        computed its `own` tokens."""
        staying = prompt_tokens.copy()
        staying[missing] = 0.0
        before = np.cumsum(staying)[missing]
        queued = tokens_ahead + before + own
        return self.margin_s + self.model.prefill_each_s(queued)


def _walk(allowed: FloatArray, prompt_tokens: FloatArray, may_miss: BoolArray) -> IntArray:
    """Rows for which the sum of their own and all staying earlier tokens exceeds `allowed`."""
    late = (np.cumsum(prompt_tokens) > allowed) & may_miss
    if not late.any():
        return _NO_ROWS
    # Late even if all before it were refused: these need no walk.
    missing = (prompt_tokens > allowed) & may_miss
    excess = np.cumsum(np.where(missing, 0.0, prompt_tokens)) - allowed
    candidates = np.flatnonzero((excess > 0.0) & may_miss & ~missing)
    refused = 0.0
    for start in range(0, len(candidates), _CHUNK):
        rows = candidates[start : start + _CHUNK]
        if excess[rows].max() <= refused:
            continue
        for row, over, tokens in zip(
            rows.tolist(), excess[rows].tolist(), prompt_tokens[rows].tolist(), strict=True
        ):
            if over > refused:
                missing[row] = True
                refused += tokens
    return np.flatnonzero(missing)
