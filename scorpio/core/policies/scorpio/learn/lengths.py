"""How many tokens will this answer have, and how far is the prediction to be believed?

Predictions come from outside (a learned model, a client's hint, nothing) and may be exact, noisy,
biased, constant or made up. So the answers that end are regressed on what was predicted for them,
in logarithms: a prediction counts as far as it has proved right, and one that says nothing (slope
0) leaves the mean. Rank matters more than size here: the longest are shed first.
"""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.kv_forecast import MOMENTS
from scorpio.core.request import RequestView
from scorpio.core.snapshot import RunningBatch
from scorpio.core.waiting import WaitingTable

_START_TOKENS = 256.0
_WEIGHT = 0.02  # of one answer, at least
_PRIOR = 8  # answers that what is believed at the start counts for
_SPREAD = 1.0  # variance of log lengths and of log predictions, before any is seen
_LEAST_SPREAD = 0.05**2  # of log lengths, however exact predictions are
_STALE, _STALE_TOKENS = 1.1, 16.0  # chances are computed anew after so many tokens
_TRUST = 0.6  # slope before any answer is seen
_MOST_KEPT = 1024  # chances from the start


class LengthBelief:
    """mean_tokens: of the answers seen. slope: 0 = predictions say nothing, 1 = take them as is."""

    def __init__(self, max_num_seqs: int) -> None:
        self.mean_tokens = _START_TOKENS
        self._seen = 0
        self._log_mean, self._spread = math.log(_START_TOKENS), _SPREAD
        self._told_log_mean = self._log_predicted = math.log(_START_TOKENS)  # of those predicted
        self._told_spread, self._variance, self._covariance = _SPREAD, _SPREAD, _TRUST * _SPREAD
        self._slot: IntArray = np.empty(0, dtype=np.int64)  # of the last step,
        self._output: IntArray = np.empty(0, dtype=np.int64)  # and what each had produced
        # By slot: which request, and its chances to run on (stale from so many tokens on).
        self._views: list[RequestView | None] = [None] * max_num_seqs
        self._alive = np.zeros((max_num_seqs, len(MOMENTS)))
        self._stale_from = np.zeros(max_num_seqs)
        # From the start: the same for all with this prediction and this limit.
        self._from_start: dict[tuple[float, int], FloatArray] = {}

    @property
    def slope(self) -> float:
        """d log(answer) / d log(prediction), within [0, 1]."""
        return min(max(self._covariance / self._variance, 0.0), 1.0)

    @property
    def variation(self) -> float:
        """Squared coefficient of variation of the lengths, as if they were log-normal."""
        return math.expm1(min(self._spread, 4.0))

    def follow(self, running: RunningBatch, waiting: WaitingTable) -> None:
        """Learn from the answers that have ended since the last step. One that was preempted has
        not: it waits to go on."""
        slot, output = self._slot, self._output
        self._slot, self._output = running.slot, running.output_tokens
        if running.slot is slot:
            return  # none came or went: the column is a new one when one does
        joined = running.joined.nonzero()[0]
        left = np.ones(len(self._views), dtype=np.bool_)
        left[running.slot] = False
        left[running.slot[joined]] = True
        preempted = {waiting[row].seq for row in waiting.started.nonzero()[0].tolist()}
        for at in left[slot].nonzero()[0].tolist():
            view = self._views[slot[at]]
            if view is not None and output[at] > 0 and view.seq not in preempted:
                self._learn(float(output[at]), view.predicted_output_tokens)
        for row, seat in zip(joined.tolist(), running.slot[joined].tolist(), strict=True):
            self._views[seat] = running.views[row]
            self._stale_from[seat] = 0.0

    def expected(self, predicted: FloatArray, most: FloatArray) -> FloatArray:
        """Expected lengths, shape [n]; the mean for what is no prediction: NaN, 0 or less, inf.
        most: tokens that each may have."""
        believed = np.exp(np.minimum(np.maximum(self._middle(predicted), 0.0), 16.0))
        lengths = np.where(_usable(predicted), believed, self.mean_tokens)
        bounded: FloatArray = np.minimum(lengths, most)
        return bounded

    def expected_of(self, view: RequestView) -> float:
        """Expected length of this one's answer."""
        predicted, most = np.array([view.predicted_output_tokens]), np.array([view.max_tokens])
        return float(self.expected(predicted, most)[0])

    def alive(self, running: RunningBatch) -> FloatArray:
        """Chance that each answer of the batch still runs at each of `MOMENTS`, shape [B, M]."""
        slot, produced = running.slot, running.output_tokens
        stale = (produced >= self._stale_from[slot]).nonzero()[0]
        if len(stale):
            seats, views = slot[stale], [running.views[row] for row in stale.tolist()]
            self._alive[seats] = self._chances(views, produced[stale].astype(np.float64))
            self._stale_from[seats] = _STALE * produced[stale] + _STALE_TOKENS
        alive: FloatArray = self._alive[slot]
        return alive

    def left(self, running: RunningBatch) -> FloatArray:
        """Expected tokens still to come of each answer of the batch, shape [B]."""
        alive = self.alive(running)
        left = 0.5 * (alive[:, :-1] + alive[:, 1:]) @ np.diff(MOMENTS)
        most = np.array([view.max_tokens for view in running.views]) - running.output_tokens
        tokens: FloatArray = np.minimum(left, most)
        return tokens

    def alive_from_start(self, view: RequestView) -> FloatArray:
        """The same of one that has not begun, shape [M]. It waits, and each step asks for it."""
        told = view.predicted_output_tokens, view.max_tokens
        chances = self._from_start.get(told)
        if chances is None:
            if len(self._from_start) >= _MOST_KEPT:
                self._from_start.clear()
            chances = self._from_start[told] = self._chances([view], np.zeros(1))[0]
        return chances

    def _chances(self, views: list[RequestView], produced: FloatArray) -> FloatArray:
        """Of answers that have so many tokens. Lengths are taken as log-logistic: like log-normal,
        with a longer tail for those that outlive what was predicted, and quick to compute."""
        predicted = np.array([view.predicted_output_tokens for view in views])
        most = np.array([float(view.max_tokens) for view in views])
        told = max(self._told_spread - self.slope * self._covariance, _LEAST_SPREAD)
        spread = np.where(_usable(predicted), told, self._spread)
        power = (math.pi / np.sqrt(3.0 * spread))[:, None]
        length = produced[:, None] + MOMENTS
        off = power * (np.log(np.maximum(length, 1.0)) - self._middle(predicted)[:, None])
        odds = np.exp(np.minimum(np.maximum(off, -300.0), 300.0))  # of having ended by then
        alive: FloatArray = (1.0 + odds[:, :1]) / (1.0 + odds)
        return np.where(length < most[:, None], alive, 0.0)

    def _middle(self, predicted: FloatArray) -> FloatArray:
        """Expected logarithm of each length."""
        usable = _usable(predicted)
        log = np.log(np.where(usable, predicted, 1.0)) - self._log_predicted
        middle: FloatArray = np.where(
            usable, self._told_log_mean + self.slope * log, self._log_mean
        )
        return middle

    def _learn(self, produced: float, predicted: float) -> None:
        self._from_start.clear()
        self._seen += 1
        weight = max(_WEIGHT, 1.0 / (_PRIOR + self._seen))
        self.mean_tokens += weight * (produced - self.mean_tokens)
        off = math.log(produced) - self._log_mean
        self._log_mean += weight * off
        self._spread += weight * (off * off - self._spread)
        if not predicted > 0.0 or math.isinf(predicted):
            return
        off = math.log(produced) - self._told_log_mean
        off_predicted = math.log(predicted) - self._log_predicted
        self._told_log_mean += weight * off
        self._log_predicted += weight * off_predicted
        self._told_spread += weight * (off * off - self._told_spread)
        self._covariance += weight * (off * off_predicted - self._covariance)
        self._variance += weight * (off_predicted * off_predicted - self._variance)
        self._variance = max(self._variance, 1e-3)  # a constant predictor has none


def _usable(predicted: FloatArray) -> BoolArray:
    usable: BoolArray = (predicted > 0.0) & (predicted < math.inf)
    return usable
