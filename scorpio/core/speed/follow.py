"""Is the engine as fast as its profile says, and if not, which part of a step is slower?

A profile is taken once, on an idle machine; clocks, neighbours and kernels change. Executed steps
are compared with their prediction, and one multiplier per term of the step model is followed
(`rls.py`), at a fixed knee. Stalls, rare outliers and the first steps after a start or an idle time
are no evidence. What is far off and not rare is: a profile of another machine is left behind within
a few steps, for what they took. Under it lies a floor, the profile times one factor: terms of which
nothing is known stay there, and the recursion starts there anew when it predicts worse than the
factor alone.
"""

from __future__ import annotations

from collections import deque

from scorpio.core.latency import StepModel
from scorpio.core.snapshot import StepSample
from scorpio.core.speed.margin import StepErrors
from scorpio.core.speed.rls import LEAST, MOST, MultiplierRls

_WEIGHT = 0.02  # of one step in the factor and in the errors
_PROFILE = 10.0  # steps: so much is the profile worth beside those that are seen
_SHOWS, _OFF = 3, 0.5  # steps after which a wrong profile shows: the last one is off by so much
_WARM_UP = 20  # steps after a start in which the factor alone is followed
_WAKING = 3  # steps after an idle time: clocks and caches are cold
_UNKNOWN = 0.05  # both errors at first: a few steps prove nothing
_WORSE, _SLIGHT = 1.2, 0.002  # how much worse than the factor is worse: relative, and in error
# A step that takes so many times what is believed, or that part of it, is a stall or a fault of the
# clock, unless such steps are not rare (two of the last six) or most of all (eight in a row): each
# counts for 0.9 ** (steps since).
_FAR = 4.0
_FADE, _NOT_RARE, _MOST_ARE = 0.9, 1.5, 5.5
_REMEMBERED = 8  # far steps


class EngineSpeed:
    """`factor` is the floor's; `floors` counts returns to it, `rebased` fresh starts from what far
    steps took."""

    def __init__(self, model: StepModel) -> None:
        self._profile = model
        self._model: StepModel | None = model
        self._terms = MultiplierRls(6)
        self._below, self._above = StepErrors(), StepErrors()
        self._steps = 0  # since the (re)start
        self._waking = 0
        self._error = self._factor_error = _UNKNOWN
        self._far = 0.0  # recent steps that were, each faded
        self._far_ratios: deque[float] = deque(maxlen=_REMEMBERED)
        self._last_error = 0.0
        self._seen = 0  # steps that count, since the profile or a fresh start
        self.factor = 1.0
        self.floors = 0
        self.rebased = 0

    def observe(self, sample: StepSample) -> None:
        """Follow one executed step."""
        terms = _terms_s(self._profile, sample)
        predicted_s = sum(terms)
        ratio = sample.duration_s / predicted_s if predicted_s > 0.0 else 0.0
        if not LEAST <= ratio <= MOST:
            return
        shares = [term / predicted_s for term in terms]
        expected, factor = self._terms.predict(shares), self.factor
        believable = self._believable(ratio, expected)
        if believable is None:
            return
        ratio = believable
        self._model = None
        self._last_error = abs(expected / ratio - 1.0)
        self._seen += 1
        self.factor += max(_WEIGHT, 1.0 / (_PROFILE + self._seen)) * (ratio - factor)
        self._steps += 1
        if self._steps <= _WARM_UP:
            self._terms.restart(self.factor)
            return
        self._waking = _WAKING if sample.woken else max(self._waking - 1, 0)
        if self._waking:
            return
        self._error += _WEIGHT * (abs(expected / ratio - 1.0) - self._error)
        self._factor_error += _WEIGHT * (abs(factor / ratio - 1.0) - self._factor_error)
        if not self._regime(sample.tokens).outlier(ratio / expected - 1.0):
            self._terms.update(shares, ratio, self.factor)
        if self._error > _WORSE * self._factor_error + _SLIGHT:
            self._to_floor()

    @property
    def known(self) -> bool:
        """Have enough steps been seen to believe what they say?"""
        return self._seen >= _WARM_UP

    @property
    def unproven(self) -> bool:
        """May the profile be wrong by far, and the speed not yet be followed?"""
        return self._seen < _SHOWS or (not self.known and self._last_error > _OFF)

    def model(self) -> StepModel:
        """The profile's model at today's speed."""
        if self._model is None:
            profile = self._profile
            base, low, high, sq, prefix, context = self._terms.values
            self._model = StepModel(
                base_s=profile.base_s * base,
                low_token_s=profile.low_token_s * low,
                high_token_s=profile.high_token_s * high,
                knee_tokens=profile.knee_tokens,
                prefill_sq_s=profile.prefill_sq_s * sq,
                prefill_prefix_s=profile.prefill_prefix_s * prefix,
                context_token_s=profile.context_token_s * context,
            )
        return self._model

    def margin(self, tokens: float) -> float:
        """Times the predicted step time: 9 steps of 10 of so many tokens take less."""
        return self._regime(tokens).margin

    def _regime(self, tokens: float) -> StepErrors:
        return self._below if tokens <= self._profile.knee_tokens else self._above

    def _believable(self, ratio: float, expected: float) -> float | None:
        """What this step says about the speed; None: nothing."""
        self._far *= _FADE
        if expected / _FAR <= ratio <= expected * _FAR:
            return ratio
        self._far += 1.0
        self._far_ratios.append(ratio)
        if self._far >= _MOST_ARE:
            self._start_from(sorted(self._far_ratios)[len(self._far_ratios) // 2])
            return None
        # Some of many: followed, but no single one decides.
        return min(max(ratio, expected / _FAR), expected * _FAR) if self._far >= _NOT_RARE else None

    def _start_from(self, factor: float) -> None:
        """The belief was wrong altogether: the profile times what it took, and all else anew."""
        self.rebased += 1
        self.factor = factor
        self._far = 0.0
        self._far_ratios.clear()
        self._below, self._above = StepErrors(), StepErrors()
        self._steps = self._waking = self._seen = 0
        self._error = self._factor_error = _UNKNOWN
        self._terms.restart(factor)
        self._model = None

    def _to_floor(self) -> None:
        self.floors += 1
        self._steps = 0
        self._error = self._factor_error
        self._terms.restart(self.factor)


def _terms_s(m: StepModel, sample: StepSample) -> tuple[float, ...]:
    """The parts of `StepModel.sample_s`, in the order of its fields."""
    tokens, knee = sample.tokens, m.knee_tokens
    return (
        m.base_s,
        m.low_token_s * min(tokens, knee),
        m.high_token_s * max(tokens - knee, 0.0),
        m.prefill_sq_s * sample.prefill_sq_tokens,
        m.prefill_prefix_s * sample.prefill_prefix_products,
        m.context_token_s * sample.decode_context_tokens,
    )
