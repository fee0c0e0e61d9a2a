"""Which waiting requests could not be served as promised even with the engine to themselves?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scorpio.core.arrays import BoolArray
from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.request import RequestView
from scorpio.core.snapshot import EngineLimits
from scorpio.core.waiting import WaitingTable


def sweep_unservable(
    waiting: WaitingTable,
    limits: EngineLimits,
    too_fast: BoolArray | None,
    never: Callable[[RequestView], bool],
) -> tuple[BoolArray | None, list[Rejection]]:
    """Rows of the table that are unservable (None: not one), [n], and their refusals.

    A prompt that fills the KV pool would block vLLM's queue for ever (its first
    token needs room too), so it is refused for good, whatever its on_miss says. too_fast: rows
    whose TPOT SLO is out of reach (None: not one); they are refused only with on_miss REJECT.
    never: not even an idle engine could keep it.
    """
    longest = float(waiting.prompt_tokens.max(initial=0.0))
    if too_fast is None and not limits.never_fits(longest):
        return None, []
    too_long = limits.never_fits(waiting.prompt_tokens) & ~waiting.started
    unservable: BoolArray = too_long
    if too_fast is not None:
        unservable = too_long | (too_fast & waiting.rejectable)
    refused = []
    for row in np.flatnonzero(unservable).tolist():
        view = waiting[row]
        if too_long[row]:
            refused.append(
                Rejection(view.request_id, RejectReason.KV_INFEASIBLE, None, None, never=True)
            )
        else:
            reason = RejectReason.TPOT_INFEASIBLE
            refused.append(Rejection(view.request_id, reason, None, None, never=never(view)))
    return unservable, refused
