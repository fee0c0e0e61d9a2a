"""What did the shadow say of one request? Its first word on each matter, as it was said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorpio.core.plan import Forecast, Rejection
from scorpio.ledger.entry import ShadowVerdict, ShadowWord


@dataclass(slots=True)
class Said:
    """Times are those of the serving clock, NaN before they come. let_in_s: when it would first
    have let it start. verdict: NONE until it would have refused it or the engine has started it.
    """

    policy: str
    let_in_s: float = math.nan
    rejection: Rejection | None = None
    rejected_s: float = math.nan
    forecast: Forecast | None = None
    verdict: ShadowVerdict = ShadowVerdict.NONE

    def refuses(self, rejection: Rejection, now_s: float) -> None:
        """It would be refused now."""
        self.rejection, self.rejected_s = rejection, now_s
        self.verdict = ShadowVerdict.REFUSED

    def lets_in(self, now_s: float) -> None:
        """It would start now, if it has not said so before."""
        if math.isnan(self.let_in_s):
            self.let_in_s = now_s

    def started(self, now_s: float, unplanned: bool) -> ShadowVerdict:
        """The engine starts it in this step, which was planned at `now_s`. unplanned: the shadow
        would have left the step to vLLM. Returns its verdict."""
        if self.let_in_s < now_s:
            self.verdict = ShadowVerdict.EARLIER
        elif unplanned or self.let_in_s == now_s:
            self.verdict = ShadowVerdict.SAME
            self.let_in_s = now_s
        else:
            self.verdict = ShadowVerdict.LATER
        return self.verdict

    def word(self, arrival_s: float) -> ShadowWord:
        """For the ledger."""
        told, forecast = self.rejection, self.forecast
        said_s = self.let_in_s if told is None else self.rejected_s
        return ShadowWord(
            policy=self.policy,
            verdict=self.verdict.value,
            said_ms=_ms(said_s - arrival_s),
            reason="" if told is None else told.reason.value,
            attainable_ttft_ms=None if told is None else _ms(told.attainable_ttft_s),
            retry_after_ms=None if told is None else _ms(told.retry_after_s),
            forecast_ttft_ms=None if forecast is None else _ms(forecast.ttft_s) or None,
            forecast_tpot_ms=None if forecast is None else _ms(forecast.tpot_s) or None,
        )


def _ms(seconds: float | None) -> float | None:
    """To a thousandth; None for what is not known or has no end."""
    known = seconds is not None and math.isfinite(seconds)
    return round(seconds * 1000.0, 3) if known and seconds is not None else None
