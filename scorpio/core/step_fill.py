"""How many prefill tokens fit beside the decodes of a step, so that it ends in time?

The inverse of `StepModel.step_s`, in closed form: a chunk of n tokens behind a prefix of p costs
a line with a knee (tokens in the step) plus sq*n^2 + prefix*p*n (its attention).
"""

from __future__ import annotations

import math

from scorpio.core.latency import StepModel


class StepFill:
    """A step being packed: decodes first, then one prefill chunk after the other.

    time_s: predicted duration with all that is in it. tokens: decodes and prefill tokens in it.
    """

    def __init__(
        self,
        model: StepModel,
        limit_s: float,
        token_limit: int,
        decodes: int,
        decode_context_tokens: float,
    ) -> None:
        self._model = model
        self._limit_s = limit_s
        self._token_limit = token_limit
        self.tokens = decodes
        self.prefill_tokens = 0
        self.time_s = model.step_s(decodes, decode_context_tokens)

    def fits(self, want_tokens: int, prefix_tokens: int = 0) -> int:
        """The most tokens, up to `want_tokens`, of a chunk that still fits; changes nothing."""
        want = min(want_tokens, self._token_limit - self.tokens)
        if want <= 0:
            return 0
        spare_s = self._limit_s - self.time_s
        if self._cost_s(want, prefix_tokens) <= spare_s:
            return want
        return min(want, self._inverse(spare_s, prefix_tokens))

    def add(self, chunk_tokens: int, prefix_tokens: int = 0) -> None:
        """Put a chunk in, whether it fits or not."""
        self.time_s += self._cost_s(chunk_tokens, prefix_tokens)
        self.tokens += chunk_tokens
        self.prefill_tokens += chunk_tokens

    def _cost_s(self, n: int, prefix_tokens: int) -> float:
        m = self._model
        low = min(max(m.knee_tokens - self.tokens, 0.0), n)
        line = m.low_token_s * low + m.high_token_s * (n - low)
        return line + (m.prefill_sq_s * n + m.prefill_prefix_s * prefix_tokens) * n

    def _inverse(self, spare_s: float, prefix_tokens: int) -> int:
        """Largest n with cost(n) <= spare_s, when some larger one is known to cost more."""
        if spare_s <= 0.0:
            return 0
        m = self._model
        before_knee = max(m.knee_tokens - self.tokens, 0.0)
        attention_s = m.prefill_prefix_s * prefix_tokens
        n = _root(m.prefill_sq_s, m.low_token_s + attention_s, spare_s)
        if n > before_knee:
            # Beyond the knee the line is low*k + high*(n - k) = high*n - (high - low)*k.
            spare_s += (m.high_token_s - m.low_token_s) * before_knee
            n = max(_root(m.prefill_sq_s, m.high_token_s + attention_s, spare_s), before_knee)
        return int(n)


def _root(square_s: float, slope_s: float, spare_s: float) -> float:
    """n >= 0 with square_s*n^2 + slope_s*n = spare_s; inf when nothing costs anything."""
    if square_s > 0.0:
        # The form without cancellation: 2c / (b + sqrt(b^2 + 4ac)).
        return 2.0 * spare_s / (slope_s + math.sqrt(slope_s**2 + 4.0 * square_s * spare_s))
    return spare_s / slope_s if slope_s > 0.0 else math.inf
