"""What will a request see that joins the batch in this step? The forecasts that `scorpio` tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scorpio.core.plan import Forecast
from scorpio.core.request import RequestView


def forecasts(
    joining: Iterable[RequestView], first_token_s: float, tpot_s: float, late_s: Mapping[str, float]
) -> list[Forecast]:
    """One for each, in order.

    first_token_s: when the step ends in which their prefill is done. late_s: how much later those
    are, by id, whose prompts are not read to their end in it.
    """
    return [
        Forecast(
            view.request_id,
            max(first_token_s - view.arrival_s, 0.0) + late_s.get(view.request_id, 0.0),
            tpot_s,
        )
        for view in joining
    ]
