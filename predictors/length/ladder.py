"""How long will this answer be? Always an answer: trained -> histogram -> global -> max_tokens.

The trained model answers while it is there, does not fail and covers what it promises. Else the
histogram of the request's (model, tenant, template), when it has seen enough; else that of all
requests; else max_tokens, the one bound that is certain. Nothing in here raises. Not thread-safe:
it lives on the API process's event loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import numpy as np

from predictors.length.coverage import CoverageMonitor
from predictors.length.hashing import text_hash
from predictors.length.histogram import HistogramTable, Key
from predictors.length.quantiles import LEVELS, MAX_TOKENS, MAX_Z, LengthDistribution
from predictors.length.request import LengthRequest
from scorpio.core.arrays import FloatArray

NEEDED_ANSWERS: Final = 30.0  # faded weight below which a histogram says nothing
FAILURES_ALLOWED: Final = 10  # exceptions in a row after which the trained model is left alone
UNKNOWN_MAX_TOKENS: Final = 4096  # stands for max_tokens when the caller gives none


class Source(StrEnum):
    """The rung that answered."""

    TRAINED = "trained"
    HISTOGRAM = "histogram"
    GLOBAL = "global"
    MAX_TOKENS = "max_tokens"


class QuantileModel(Protocol):
    """What the top rung needs; LengthModel is one."""

    def quantiles_z(self, requests: Sequence[LengthRequest]) -> FloatArray:
        """log(1 + tokens) at LEVELS, [N, Q]."""
        ...


@dataclass(frozen=True, slots=True)
class LengthPrediction:
    """One answer length. quantiles_tokens stand at LEVELS, cut at max_tokens like mean_tokens.

    distribution: None on the last rung. trained_z: what the trained model said, asked or not.
    """

    source: Source
    mean_tokens: float
    quantiles_tokens: tuple[float, ...]
    distribution: LengthDistribution | None = None
    trained_z: FloatArray | None = None

    def remaining(self, outlived_tokens: int, level: float = 0.5) -> float:
        """Tokens still to come, at a level, after so many were produced; >= 0, never raises."""
        if self.distribution is None:
            return max(self.mean_tokens - outlived_tokens, 0.0)
        total = self.distribution.quantile(min(max(level, 0.0), 0.999), float(outlived_tokens))
        return max(total - outlived_tokens, 0.0)


class LengthLadder:
    """The predictor of a serving process; learns from every finished answer."""

    def __init__(
        self,
        model: QuantileModel | None = None,
        table: HistogramTable | None = None,
        monitor: CoverageMonitor | None = None,
    ) -> None:
        self._model = model
        self._table = HistogramTable() if table is None else table
        self._monitor = CoverageMonitor() if monitor is None else monitor
        self._answers = dict.fromkeys(Source, 0)
        self._failures, self._failures_in_row = 0, 0
        self._observed, self._ignored = 0, 0

    def predict(self, request: LengthRequest) -> LengthPrediction:
        """Prediction for one request."""
        # without text the trained model would guess from a request it was never shown
        trained_z = self._trained(request) if request.prompt else None
        source, z = self._rung(request, trained_z)
        self._answers[source] += 1
        if z is None:
            most = float(request.max_tokens or UNKNOWN_MAX_TOKENS)
            return LengthPrediction(source, most, (most,) * len(LEVELS), None, trained_z)
        spread = LengthDistribution.from_quantiles(z, request.max_tokens)
        return LengthPrediction(source, spread.mean(), spread.levels_tokens(), spread, trained_z)

    def observe(
        self, request: LengthRequest, prediction: LengthPrediction, output_tokens: int
    ) -> None:
        """An answer that ended by itself or at max_tokens; leave out the aborted ones."""
        if not isinstance(output_tokens, int) or not 0 <= output_tokens <= MAX_TOKENS:
            self._ignored += 1
            return
        self._observed += 1
        self._table.add(_key(request), output_tokens)
        if prediction.trained_z is not None:
            self._monitor.add(np.expm1(prediction.trained_z), output_tokens, request.max_tokens)

    def state(self) -> dict[str, object]:
        """Everything a metrics page shows; a fixed set of keys."""
        return {
            "trained": self._model is not None,
            "demoted": self._monitor.demoted,
            "demotions": self._monitor.demotions,
            "coverage": self._monitor.coverage(),
            "coverage_outcomes": self._monitor.outcomes,
            "broken": self._failures_in_row >= FAILURES_ALLOWED,
            "failures": self._failures,
            "answers": {source.value: n for source, n in self._answers.items()},
            "observed": self._observed,
            "ignored": self._ignored,
            "histograms": len(self._table),
            "histograms_evicted": self._table.evicted,
        }

    def _trained(self, request: LengthRequest) -> FloatArray | None:
        """Quantiles of the trained model, also while demoted: that is its way back."""
        if self._model is None or self._failures_in_row >= FAILURES_ALLOWED:
            return None
        try:
            z = np.asarray(self._model.quantiles_z([request]), dtype=np.float64)
            # the sum is finite when all are; one number is quicker to look at than six
            if z.shape != (1, len(LEVELS)) or not math.isfinite(z.sum()):
                raise ValueError("not finite quantiles")
        except Exception:  # whatever the model does, the request is served
            self._failures += 1
            self._failures_in_row += 1
            return None
        self._failures_in_row = 0
        capped: FloatArray = np.minimum(z[0], MAX_Z)
        return capped

    def _rung(
        self, request: LengthRequest, trained_z: FloatArray | None
    ) -> tuple[Source, FloatArray | None]:
        if trained_z is not None and not self._monitor.demoted:
            return Source.TRAINED, trained_z
        own = self._table.get(_key(request))
        if own is not None and own.weight >= NEEDED_ANSWERS:
            return Source.HISTOGRAM, own.quantiles_z()
        if self._table.everything.weight >= NEEDED_ANSWERS:
            return Source.GLOBAL, self._table.everything.quantiles_z()
        return Source.MAX_TOKENS, None


def _key(request: LengthRequest) -> Key:
    return request.model[:256], request.tenant[:256], text_hash(request.system)
