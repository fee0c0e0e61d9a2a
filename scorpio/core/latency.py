"""How long will it take? Step-time and prefill-time estimators with named coefficients.

Two forms live side by side: the published one (arXiv 2505.23022, section 3; decode-only ITL and a
piecewise-linear prefill time), used by `scorpio-paper`, and the mixed-step form that chunked
prefill needs, used by `scorpio`. All times are seconds, all sizes tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from scorpio.core.arrays import FloatArray, Number
from scorpio.core.snapshot import StepSample


def _check_finite(obj: object) -> None:
    for field in fields(obj):  # type: ignore[arg-type]
        value = getattr(obj, field.name)
        # `<= max` also refuses inf and NaN, and an int too large for a float, without raising.
        if not isinstance(value, (int, float)) or not 0.0 <= value <= sys.float_info.max:
            owner = type(obj).__name__
            raise ValueError(f"{owner}.{field.name} must be finite and >= 0, got {value!r}")


@dataclass(frozen=True, slots=True)
class DecodeModel:
    """ITL(B, Lavg) = a*B*Lavg + b*B + c*Lavg + d (paper eq. for inter-token latency)."""

    a_s: float
    b_s: float
    c_s: float
    d_s: float

    def __post_init__(self) -> None:
        _check_finite(self)

    def step_s(self, batch: Number, mean_context: Number) -> Number:
        """Predicted time of a decode-only step of `batch` requests."""
        return (
            self.a_s * batch * mean_context + self.b_s * batch + self.c_s * mean_context + self.d_s
        )

    def tpot_s(self, batch: Number, prompt_tokens: Number, output_tokens: Number) -> Number:
        """Mean ITL over a request's predicted output: context grows linearly, so it is
        0.5*(a*B + c)*(2*Lin + out) + b*B + d."""
        return (
            0.5 * (self.a_s * batch + self.c_s) * (2.0 * prompt_tokens + output_tokens)
            + self.b_s * batch
            + self.d_s
        )


@dataclass(frozen=True, slots=True)
class PrefillModel:
    """Prefill time: constant `floor_s` up to `knee_tokens`, then linear in tokens."""

    floor_s: float
    knee_tokens: float
    per_token_s: float

    def __post_init__(self) -> None:
        _check_finite(self)

    def prefill_s(self, prompt_tokens: float) -> float:
        """Predicted time to prefill `prompt_tokens` alone."""
        return self.floor_s + self.per_token_s * max(prompt_tokens - self.knee_tokens, 0.0)

    def prefill_each_s(self, prompt_tokens: FloatArray) -> FloatArray:
        """`prefill_s` of every element."""
        return self.floor_s + self.per_token_s * np.maximum(prompt_tokens - self.knee_tokens, 0.0)

    def tokens_within(self, time_s: FloatArray) -> FloatArray:
        """Inverse of `prefill_s`: the most tokens that take at most so long; -inf for none."""
        spare_s = time_s - self.floor_s
        most = np.full(len(spare_s), np.inf)
        if self.per_token_s > 0.0:
            most = self.knee_tokens + spare_s / self.per_token_s
        most[spare_s < 0.0] = -np.inf
        return most


@dataclass(frozen=True, slots=True)
class StepModel:
    """Mixed step.

    T(step) = base + low*min(T,knee) + high*max(T-knee,0) + sq*sum(n^2) + prefix*sum(n*p) + ctx*S.

    T = prefill tokens + decodes in the step + their drafts, n = prefill tokens of one chunk, p =
    its KV prefix, S = sum of decode contexts. Two regimes (memory- and compute-bound) meet at
    `knee_tokens`.
    """

    base_s: float
    low_token_s: float
    high_token_s: float
    knee_tokens: float
    prefill_sq_s: float
    prefill_prefix_s: float
    context_token_s: float

    def __post_init__(self) -> None:
        _check_finite(self)

    def step_s(
        self,
        decodes: float,
        decode_context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_sq_tokens: float = 0.0,
        prefill_prefix_products: float = 0.0,
    ) -> float:
        """Predicted time of one mixed step."""
        tokens = decodes + prefill_tokens
        return (
            self.base_s
            + self.low_token_s * min(tokens, self.knee_tokens)
            + self.high_token_s * max(tokens - self.knee_tokens, 0.0)
            + self.prefill_sq_s * prefill_sq_tokens
            + self.prefill_prefix_s * prefill_prefix_products
            + self.context_token_s * decode_context_tokens
        )

    def sample_s(self, sample: StepSample) -> float:
        """Predicted time of a step that was executed; its own duration is not looked at."""
        return self.step_s(
            sample.decode_tokens,
            sample.decode_context_tokens,
            sample.prefill_tokens,
            sample.prefill_sq_tokens,
            sample.prefill_prefix_products,
        )


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """Everything `scorpio profile` measures about one engine; the policies' only view of speed."""

    decode: DecodeModel
    prefill: PrefillModel
    step: StepModel
    source: str = "unspecified"

    def to_dict(self) -> dict[str, object]:
        """Plain dict for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> LatencyProfile:
        """Inverse of `to_dict`. Raises ValueError naming the field that is missing or wrong."""
        parts: dict[str, object] = {}
        for name, part in (("decode", DecodeModel), ("prefill", PrefillModel), ("step", StepModel)):
            values = raw.get(name)
            if not isinstance(values, Mapping):
                raise ValueError(f"latency profile: `{name}` is missing or not a table")
            wanted = {f.name for f in fields(part)}
            if set(values) != wanted:
                off = sorted(wanted.symmetric_difference(values))
                raise ValueError(f"latency profile: `{name}` has missing or unknown fields: {off}")
            parts[name] = part(**values)
        return cls(**parts, source=str(raw.get("source", "unspecified")))  # type: ignore[arg-type]


def decode_from_step(step: StepModel) -> DecodeModel:
    """The decode-only view of a mixed-step model below its knee: T = B, S = B * Lavg."""
    return DecodeModel(a_s=step.context_token_s, b_s=step.low_token_s, c_s=0.0, d_s=step.base_s)


def prefill_from_step(step: StepModel) -> PrefillModel:
    """The prefill-alone view of a mixed-step model, linearised above its knee."""
    return PrefillModel(
        floor_s=step.base_s + step.low_token_s * step.knee_tokens,
        knee_tokens=step.knee_tokens,
        per_token_s=step.high_token_s,
    )


# Used until `scorpio profile` has run: everything looks free, so nothing is refused on a guess.
UNMEASURED = LatencyProfile(
    DecodeModel(0.0, 0.0, 0.0, 0.0),
    PrefillModel(0.0, 0.0, 0.0),
    StepModel(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    source="unmeasured",
)
