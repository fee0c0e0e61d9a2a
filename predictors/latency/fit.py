"""What are this engine's coefficients, and how far off are they? Fits a LatencyProfile.

Errors are cross-validated: every step is predicted once by coefficients that never saw it (folds
of whole blocks of consecutive steps, because neighbours in time are near copies); the
coefficients handed out are then fitted on all steps. Stalls count in the reported errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictors.latency.errors import ErrorStats, errors_by_kind, repeat_error
from predictors.latency.predict import predict_mixed, predict_paper
from predictors.latency.regression import fit_with_knee, knee_candidates
from predictors.latency.samples import StepTable
from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.latency import (
    DecodeModel,
    LatencyProfile,
    PrefillModel,
    StepModel,
    decode_from_step,
    prefill_from_step,
)
from scorpio.core.snapshot import StepSample

MIN_STEPS = 20
_MIN_PURE_STEPS = 8  # fewer decode-only (prefill-only) steps: derive that form from the mixed one
_FOLDS = 5
_BLOCK = 4


class FitError(ValueError):
    """The samples cannot identify a model; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class FitReport:
    """Held-out errors by kind of step: the mixed form beside the paper's.

    The paper has no form for a mixed step; the kindest reading is charged: its decode time plus
    its prefill time. below_knee/above_knee are the two regimes of the mixed form. `repeats` is how
    far apart the same steps are among themselves: about the floor of any model of sizes.
    """

    steps: int
    warmup_dropped: int
    outliers: int
    mixed_form: dict[str, ErrorStats | None]
    paper_form: dict[str, ErrorStats | None]
    repeats: ErrorStats | None

    def to_dict(self) -> dict[str, object]:
        """Plain dict for JSON."""
        return {
            "steps": self.steps,
            "warmup_dropped": self.warmup_dropped,
            "outliers": self.outliers,
            "repeats": self.repeats.to_dict() if self.repeats else None,
            **{
                name: {kind: s.to_dict() if s else None for kind, s in form.items()}
                for name, form in (("mixed_form", self.mixed_form), ("paper_form", self.paper_form))
            },
        }


def fit_step(steps: StepTable) -> tuple[StepModel, BoolArray]:
    """Two-regime mixed-step model, and the rows kept as inliers."""

    def features(knee: float) -> FloatArray:
        t = steps.tokens
        columns = (np.ones(len(t)), np.minimum(t, knee), np.maximum(t - knee, 0.0),
                   steps.prefill_sq, steps.prefill_prefix, steps.context_tokens)  # fmt: skip
        return np.stack(columns, axis=1)

    values, knee, kept = fit_with_knee(features, knee_candidates(steps.tokens), steps.duration_s)
    base, low, high, sq, prefix, context = (float(v) for v in values)
    return StepModel(base, low, high, knee, sq, prefix, context), kept


def fit_decode(steps: StepTable) -> DecodeModel:
    """Paper form a*B*L + b*B + c*L + d on decode-only steps."""

    def features(_knee: float) -> FloatArray:
        mean_context = steps.context_tokens / steps.decodes
        columns = (steps.context_tokens, steps.decodes, mean_context, np.ones(len(steps)))
        return np.stack(columns, axis=1)

    values, _, _ = fit_with_knee(features, [0.0], steps.duration_s)
    return DecodeModel(*(float(v) for v in values))


def fit_prefill(steps: StepTable) -> PrefillModel:
    """Paper form: constant to a knee, then linear in tokens; on prefill-only steps."""

    def features(knee: float) -> FloatArray:
        over = np.maximum(steps.prefill_tokens - knee, 0.0)
        return np.stack((np.ones(len(over)), over), axis=1)

    knees = [0.0, *knee_candidates(steps.prefill_tokens)]
    values, knee, _ = fit_with_knee(features, knees, steps.duration_s)
    return PrefillModel(floor_s=float(values[0]), knee_tokens=knee, per_token_s=float(values[1]))


def fit_models(steps: StepTable, source: str) -> tuple[LatencyProfile, int]:
    """All three models on `steps` (no error figures), and how many steps were outliers."""
    step, kept = fit_step(steps)
    decodes = steps.take(steps.decode_only)
    prefills = steps.take(steps.prefill_only)
    profile = LatencyProfile(
        decode=fit_decode(decodes) if len(decodes) >= _MIN_PURE_STEPS else decode_from_step(step),
        prefill=(
            fit_prefill(prefills) if len(prefills) >= _MIN_PURE_STEPS else prefill_from_step(step)
        ),
        step=step,
        source=source,
    )
    return profile, int(np.sum(~kept))


def fit_profile(
    samples: Sequence[StepSample], source: str, warmup_steps: int = 0
) -> tuple[LatencyProfile, FitReport]:
    """Fit all models and report held-out errors; the first `warmup_steps` samples are dropped.

    Raises:
        FitError: fewer than MIN_STEPS steps, or all steps of one size.
    """
    steps = StepTable.of(samples[warmup_steps:])
    if len(steps) < MIN_STEPS:
        raise FitError(f"{len(steps)} step samples are too few to fit, at least {MIN_STEPS}")
    if len(np.unique(steps.tokens)) < 2:
        raise FitError("all step samples have the same number of tokens: nothing to learn from")
    profile, outliers = fit_models(steps, source)
    mixed_s, paper_s = np.empty(len(steps)), np.empty(len(steps))
    fold = _folds(len(steps))
    for number in range(_FOLDS):
        held_out = fold == number
        if not held_out.any():
            continue
        fitted, _ = fit_models(steps.take(~held_out), source)
        mixed_s[held_out] = predict_mixed(fitted, steps.take(held_out))
        paper_s[held_out] = predict_paper(fitted, steps.take(held_out))
    knee = profile.step.knee_tokens
    report = FitReport(
        steps=len(steps),
        warmup_dropped=len(samples) - len(steps),
        outliers=outliers,
        mixed_form=errors_by_kind(steps, mixed_s, knee),
        paper_form=errors_by_kind(steps, paper_s, knee),
        repeats=repeat_error(steps, predict_mixed(profile, steps)),
    )
    return profile, report


def _folds(n: int) -> FloatArray:
    # Blocks are dealt to folds by a fixed permutation: a rotation would put the same sizes of a
    # regular design always in the same fold.
    blocks = -(-n // _BLOCK)
    order = np.random.default_rng(0).permutation(blocks) % _FOLDS
    return np.repeat(order, _BLOCK)[:n].astype(np.float64)
