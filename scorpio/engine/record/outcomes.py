"""How did requests end, by SLO class? Counts since start; labels are the operator's class names.

Times are the engine's: from arrival in the API process to the output of a step, so the way to the
client is not in them. A promise counts as broken only for a request that finished, and so is what
the policy forecast for it compared with what came.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter

from scorpio.channel import SLACK_BOUNDS_S
from scorpio.core.plan import FinalState, Forecast, RejectReason
from scorpio.core.request import RequestView
from scorpio.window import Window


def missed(view: RequestView, first_s: float, ended_s: float, tokens: int) -> tuple[str, ...]:
    """Which objectives did a finished request miss?"""
    late = {
        "ttft": view.deadline_s < first_s,
        "tpot": ended_s - first_s > view.slo.tpot_s * max(tokens - 1, 0),
        "e2e": ended_s - view.arrival_s > view.slo.e2e_s,
    }
    return tuple(kind for kind, is_late in late.items() if is_late)


class Outcomes:
    """`unnamed`: the label of requests that name no class."""

    def __init__(self, unnamed: str) -> None:
        self._unnamed = unnamed
        self.final: Counter[tuple[str, FinalState]] = Counter()
        self.rejected: Counter[tuple[str, RejectReason]] = Counter()
        self.good: Counter[str] = Counter()
        self.violated: Counter[tuple[str, str]] = Counter()
        self.forecast: Counter[tuple[str, str]] = Counter()
        self.exceeded: Counter[tuple[str, str]] = Counter()
        self._slack: dict[str, list[int]] = {}
        self._error = {"ttft": Window(), "tpot": Window()}

    def ended(
        self,
        view: RequestView,
        state: FinalState,
        first_token_s: float,
        now_s: float,
        tokens: int,
        forecast: Forecast | None = None,
    ) -> None:
        """A request is gone. first_token_s: NaN when that token came in this very step."""
        label = view.slo_class or self._unnamed
        self.final[label, state] += 1
        if state is not FinalState.FINISHED or not tokens:
            return
        first_s = now_s if math.isnan(first_token_s) else first_token_s
        broken = missed(view, first_s, now_s, tokens)
        self.good[label] += not broken
        for kind in broken:
            self.violated[label, kind] += 1
        slack_s = view.deadline_s - first_s
        if math.isfinite(slack_s):
            buckets = self._slack.setdefault(label, [0] * (len(SLACK_BOUNDS_S) + 1))
            buckets[bisect_left(SLACK_BOUNDS_S, slack_s)] += 1
        if forecast is not None:
            self._compare(label, "ttft", forecast.ttft_s, first_s - view.arrival_s)
            if tokens > 1:
                self._compare(label, "tpot", forecast.tpot_s, (now_s - first_s) / (tokens - 1))

    def _compare(self, label: str, kind: str, forecast_s: float, actual_s: float) -> None:
        if not (math.isfinite(forecast_s) and actual_s > 0.0):
            return
        self.forecast[label, kind] += 1
        self.exceeded[label, kind] += actual_s > forecast_s
        self._error[kind].add(abs(forecast_s - actual_s) / actual_s)

    def restart_windows(self) -> None:
        """Another policy: its forecasts are judged from here on."""
        for window in self._error.values():
            window.restart()

    def refused(self, view: RequestView, reason: RejectReason) -> None:
        """A request that counted as aborted was told no."""
        label = view.slo_class or self._unnamed
        self.final[label, FinalState.ABORTED] -= 1
        self.final[label, FinalState.REJECTED] += 1
        self.rejected[label, reason] += 1

    def total(self, state: FinalState) -> int:
        """Over all classes."""
        return sum(n for (_, s), n in self.final.items() if s is state)

    def state(self) -> dict[str, object]:
        """For status.json: totals for people, `by_class` for /metrics."""
        labels = dict.fromkeys(label for label, _ in self.final)
        return {
            "finished_by_state": {s.value: n for s in FinalState if (n := self.total(s))},
            "by_class": {label: self._of_class(label) for label in labels},
            "forecast_error": {kind: w.quantiles(4) for kind, w in self._error.items()},
        }

    def _of_class(self, label: str) -> dict[str, object]:
        return {
            "outcomes": {s.value: self.final[label, s] for s in FinalState},
            "good": self.good[label],
            "rejections": {r.value: n for (name, r), n in self.rejected.items() if name == label},
            "violations": {kind: self.violated[label, kind] for kind in ("ttft", "tpot", "e2e")},
            "forecasts": {kind: self.forecast[label, kind] for kind in ("ttft", "tpot")},
            "forecasts_exceeded": {kind: self.exceeded[label, kind] for kind in ("ttft", "tpot")},
            "ttft_slack": self._slack.get(label, []),
        }
