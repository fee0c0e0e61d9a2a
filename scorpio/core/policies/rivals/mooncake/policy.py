"""`mooncake`: early rejection based on prediction (Mooncake, arXiv 2407.00079), on one engine.

Question: can this request, at the moment it arrives, still be served within its SLO? Rule:
predict its TTFT from the prefill queue ahead of it and its TPOT from the batch it will join when
its prefill is done; refuse it at once when either misses, else serve first come, first served.
See docs/policies/mooncake.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.latency import LatencyProfile
from scorpio.core.options import Options, option
from scorpio.core.plan import LEAST_RETRY_S, STOCK_STEP, Forecast, Rejection, RejectReason, StepPlan
from scorpio.core.policies.rivals.mooncake.join_forecast import Forecaster, JoinForecast, Queue
from scorpio.core.request import RequestView
from scorpio.core.snapshot import EngineLimits, Snapshot, StepSample


@dataclass(frozen=True, slots=True)
class MooncakeOptions(Options):
    """ttft_margin_s: added to the TTFT that is forecast. tpot_share: of its TPOT SLO that the batch
    a request joins may take."""

    ttft_margin_s: float = option(0.02, 0.0, 3600.0)
    tpot_share: float = option(1.0, 0.01, 10.0)


class Mooncake:
    """State: up to which arrival it has judged; a request is judged once."""

    name = "mooncake"
    passive = False

    def __init__(
        self, profile: LatencyProfile, limits: EngineLimits, options: MooncakeOptions
    ) -> None:
        self._margin_s = options.ttft_margin_s
        self._tpot_share = options.tpot_share
        self._forecaster = Forecaster(profile.step, limits)
        self._possible_tpot_s = profile.step.step_s(1, 0)
        self._judged = -1

    def queue_key(self, view: RequestView) -> float:
        """First come, first served, as vLLM counts."""
        return float(view.seq)

    def observe(self, sample: StepSample) -> None:
        """Learn how much of a step prefill takes."""
        self._forecaster.observe(sample)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        self._forecaster.track(snapshot.running)
        newcomers = self._newcomers(snapshot)
        if not len(newcomers):
            return STOCK_STEP  # FCFS is vLLM's own order
        reject, forecasts = self._judge(now_s, snapshot, newcomers)
        return StepPlan(stock=not reject, reject=reject, forecasts=forecasts)

    def _newcomers(self, snapshot: Snapshot) -> range:
        """Rows not judged yet; they stand at the end of the queue."""
        waiting = snapshot.waiting
        n, first = len(waiting), len(waiting)
        while first and waiting[first - 1].seq > self._judged and not waiting.started[first - 1]:
            first -= 1
        if first < n:
            self._judged = waiting[n - 1].seq
        return range(first, n)

    def _judge(
        self, now_s: float, snapshot: Snapshot, newcomers: range
    ) -> tuple[list[Rejection], list[Forecast]]:
        running, waiting = snapshot.running, snapshot.waiting
        batch = self._forecaster.batch(running)
        ahead = waiting.prefill_tokens[: newcomers.start]
        cached = waiting.cached_tokens[: newcomers.start]
        left = running.prefill_left.astype(np.float64)
        queue = Queue(
            len(ahead),
            float(ahead.sum() + left.sum()),
            float(np.dot(ahead, ahead) + np.dot(left, left)),
            float(cached.sum()),
            float(np.dot(ahead, cached)),
        )
        tightest_s = min(
            self._tightest_s(running.tpot_slo_s),
            self._tightest_s(waiting.tpot_slo_s[: newcomers.start]),
        )
        start_s = now_s + self._margin_s
        reject: list[Rejection] = []
        told: list[Forecast] = []
        for row in newcomers:
            view = waiting[row]
            joined = queue.plus(view.prefill_tokens, view.cached_tokens)
            forecast = self._forecaster.forecast(view, joined, batch)
            reason = self._misses(view, forecast, start_s, min(tightest_s, view.slo.tpot_s))
            if reason is not None and waiting.rejectable[row]:
                # Told as if nothing of its own prompt were cached: that may be another tenant's.
                behind = queue.plus(view.prompt_tokens)
                forecast = self._forecaster.forecast(view.uncached, behind, batch)
                least_s = min(tightest_s, view.slo.tpot_s)
                reason = self._misses(view, forecast, start_s, least_s) or reason
                reject.append(self._refusal(view, forecast, reason))
                continue
            queue = joined
            ttft_s = max(start_s - view.arrival_s, 0.0) + forecast.ttft_s
            told.append(Forecast(view.request_id, ttft_s, forecast.tpot_s))
            if view.slo.tpot_s >= self._possible_tpot_s:
                tightest_s = min(tightest_s, view.slo.tpot_s)
        return reject, told

    def _tightest_s(self, tpot_slo_s: FloatArray) -> float:
        """The tightest promise that can be kept: one that cannot must not stop the server."""
        kept = tpot_slo_s[tpot_slo_s >= self._possible_tpot_s]
        return float(kept.min(initial=math.inf))

    def _misses(
        self, view: RequestView, forecast: JoinForecast, start_s: float, tpot_slo_s: float
    ) -> RejectReason | None:
        if start_s + forecast.ttft_s > view.deadline_s:
            return RejectReason.TTFT_INFEASIBLE
        if forecast.tpot_s > self._tpot_share * tpot_slo_s:
            return RejectReason.TPOT_INFEASIBLE
        return None

    def _refusal(
        self, view: RequestView, forecast: JoinForecast, reason: RejectReason
    ) -> Rejection:
        ttft_s = self._margin_s + forecast.ttft_s
        return Rejection(
            view.request_id, reason, ttft_s, max(ttft_s - view.slo.ttft_s, LEAST_RETRY_S)
        )
