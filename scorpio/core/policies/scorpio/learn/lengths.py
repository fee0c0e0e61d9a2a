"""How many tokens will this answer have, and how far is the prediction to be believed?

Predictions come from outside (a learned model, a client's hint, nothing) and may be exact, noisy,
biased, constant or made up. So the answers that end are regressed on what was predicted for them,
in logarithms: a prediction counts as far as it has proved right, and one that says nothing (slope
0) leaves the mean. Rank matters more than size here: the longest are shed first.
"""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.snapshot import RunningBatch

_START_TOKENS = 256.0
_WEIGHT = 0.02  # of one answer
_SPREAD = 1.0  # of log predictions, before any is seen
_TRUST = 0.6  # slope before any answer is seen


class LengthBelief:
    """mean_tokens: of the answers seen. slope: 0 = predictions say nothing, 1 = take them as is."""

    def __init__(self, max_num_seqs: int) -> None:
        self.mean_tokens = _START_TOKENS
        self._log_mean = math.log(_START_TOKENS)
        self._log_predicted = math.log(_START_TOKENS)
        self._variance, self._covariance = _SPREAD, _TRUST * _SPREAD
        self._slot: IntArray = np.empty(0, dtype=np.int64)  # of the last step,
        self._output: IntArray = np.empty(0, dtype=np.int64)  # and what each had produced
        self._produced = np.zeros(max_num_seqs)
        self._predicted = np.full(max_num_seqs, math.nan)

    @property
    def slope(self) -> float:
        """d log(answer) / d log(prediction), within [0, 1]."""
        return min(max(self._covariance / self._variance, 0.0), 1.0)

    def follow(self, running: RunningBatch) -> None:
        """Learn from the slots that changed hands since the last step."""
        slot, output = self._slot, self._output
        self._slot, self._output = running.slot, running.output_tokens
        if running.slot is slot:
            return  # none came or went: the column is a new one when one does
        self._produced[slot] = output
        joined = running.joined.nonzero()[0]
        for row, seat in zip(joined.tolist(), running.slot[joined].tolist(), strict=True):
            if self._produced[seat] > 0.0:
                self._learn(float(self._produced[seat]), float(self._predicted[seat]))
            self._predicted[seat] = running.views[row].predicted_output_tokens

    def expected(self, predicted: FloatArray) -> FloatArray:
        """Expected lengths, shape [n]; the mean for what is no prediction: NaN, 0 or less, inf."""
        usable = (predicted > 0.0) & (predicted < math.inf)
        log = np.log(np.where(usable, predicted, 1.0)) - self._log_predicted
        believed = np.exp(np.clip(self._log_mean + self.slope * log, 0.0, 16.0))
        lengths: FloatArray = np.where(usable, believed, self.mean_tokens)
        return lengths

    def _learn(self, produced: float, predicted: float) -> None:
        self.mean_tokens += _WEIGHT * (produced - self.mean_tokens)
        if not predicted > 0.0 or math.isinf(predicted):
            return
        off = math.log(produced) - self._log_mean
        off_predicted = math.log(predicted) - self._log_predicted
        self._log_mean += _WEIGHT * off
        self._log_predicted += _WEIGHT * off_predicted
        self._covariance += _WEIGHT * (off * off_predicted - self._covariance)
        self._variance += _WEIGHT * (off_predicted * off_predicted - self._variance)
        self._variance = max(self._variance, 1e-3)  # a constant predictor has none
