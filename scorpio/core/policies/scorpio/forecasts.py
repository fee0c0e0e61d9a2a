"""What will a request see that joins the batch in this step? The forecasts that `scorpio` tells."""

from __future__ import annotations

from collections.abc import Iterable

from scorpio.core.plan import Forecast
from scorpio.core.request import RequestView


def forecasts(
    joining: Iterable[RequestView], first_token_s: float, tpot_s: float, last_late_s: float = 0.0
) -> list[Forecast]:
    """One for each, in order.

    first_token_s: when the step ends in which their prefill is done. last_late_s: how much later
    the last one is, whose prompt does not fit the step whole.
    """
    told = [
        Forecast(view.request_id, max(first_token_s - view.arrival_s, 0.0), tpot_s)
        for view in joining
    ]
    if told and last_late_s > 0.0:
        told[-1] = Forecast(told[-1].request_id, told[-1].ttft_s + last_late_s, tpot_s)
    return told
