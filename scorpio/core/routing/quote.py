"""Which promise would a request get now, and how sure is that? The earliest TTFT that the work
before it allows, and the TPOT that steps now have.

How far such forecasts are off is learned from requests that take a quote: each that comes later
than its interval, or is refused, widens the next ones, each that holds narrows them a little, so
that in the long run `HELD` of them hold (adaptive conformal inference, Gibbs and Candes, arXiv
2106.00170).
The policy sheds such requests after others (`QUOTED_WEIGHT` in policies/scorpio/shed.py).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.forecast import forecasts
from scorpio.core.routing.load import DUE_S, Replica, ReplicaLoad, RoutedRequest
from scorpio.core.slo import Slo

HELD = 0.9  # of the quotes hold
_LATER, _SOONER = 0.05, 0.02  # of them may come later than `high_s`, and sooner than `low_s`
_LOW, _HIGH = 0.25, 2.0  # of what is forecast, at first
_RATE = 0.3  # of learning, in logarithms
_SIZES = (512, 2048, 8192)  # of prompts that are learned from together, in tokens
_MOST, _LEAST = 20.0, 1.0  # of `high_s` over what is forecast


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds. What comes is expected between low and high, `HELD` of the times."""

    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class Quote:
    """ttft: of its first token. tpot: low is a step of decodes alone, high one as long as steps may
    be now. samples: how many requests the interval was learned from."""

    prompt_tokens: int
    ttft: Span
    tpot: Span
    samples: int


@dataclass(slots=True)
class _Learned:
    """Of prompts of one size: low and high over what is forecast, in logarithms. Under overload the
    long ones are shed first, so theirs are further off."""

    low: float = math.log(_LOW)
    high: float = math.log(_HIGH)
    samples: int = 0

    def came(self, later: bool, sooner: bool) -> None:
        self.samples += 1
        self.high += _RATE * (later - _LATER)
        self.low -= _RATE * (sooner - _SOONER)
        self.high = min(max(self.high, math.log(_LEAST)), math.log(_MOST))
        self.low = min(self.low, 0.0)

    def span(self, forecast_s: float) -> Span:
        return Span(math.exp(self.low) * forecast_s, math.exp(self.high) * forecast_s)


class Quotes:
    """Of the engines behind one address. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._view = FleetView()
        self._told_s: list[float] = []
        self._learned = [_Learned() for _ in range(len(_SIZES) + 1)]

    def __len__(self) -> int:
        return len(self._view)

    def add(self, replica: Replica) -> int:
        """An engine; returns its row."""
        self._told_s.append(-math.inf)
        return self._view.add(replica)

    def report(self, row: int, load: ReplicaLoad) -> None:
        """What that engine has told; the same report twice is one."""
        if load.at_s != self._told_s[row]:
            if load.at_s < self._told_s[row]:  # the clock was set back
                self._view.clock_was_set(row)
            self._told_s[row] = load.at_s
            self._view.report(row, load)

    def sent(self, row: int, request: RoutedRequest, now_s: float) -> None:
        """It was sent there; the next report may not know of it yet."""
        self._view.send(row, request, now_s)

    def quote(
        self, prompt_tokens: int, output_tokens: float, now_s: float, tpot_slo_s: float = math.inf
    ) -> Quote | None:
        """For such a request, sent now. output_tokens: expected. None: no engine has a seat for it,
        so no time can be said."""
        for due_s in DUE_S:
            slo = Slo(due_s, tpot_slo_s)
            asked = RoutedRequest(0, now_s, prompt_tokens, slo, output_tokens)
            found = forecasts(self._view, asked, now_s)
            row = int(np.argmin(found.ttft_s)) if len(found.ttft_s) else 0
            ttft_s = float(found.ttft_s[row]) if len(found.ttft_s) else math.inf
            if ttft_s <= due_s and math.isfinite(ttft_s):
                known, tpot = self._of(prompt_tokens), self._tpot(row, float(found.tpot_s[row]))
                return Quote(prompt_tokens, known.span(ttft_s), tpot, known.samples)
        return None

    def came(self, quote: Quote, ttft_s: float) -> None:
        """One that took it has its first token after so long; inf: it was refused."""
        later, sooner = ttft_s > quote.ttft.high_s, ttft_s < quote.ttft.low_s
        self._of(quote.prompt_tokens).came(later, sooner)

    def _of(self, prompt_tokens: int) -> _Learned:
        return self._learned[bisect_left(_SIZES, prompt_tokens)]

    def _tpot(self, row: int, alone_s: float) -> Span:
        view = self._view
        longest_s = max(float(min(view.tightest_s[row], view.full_s[row])), alone_s)
        return Span(alone_s, longest_s)
