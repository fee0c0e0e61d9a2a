"""Which requests join when only the order matters? The head of the queue, as far as it fits."""

from __future__ import annotations

import numpy as np

from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.snapshot import Snapshot

# Prompts worth more than this many full steps cannot start in one step, prefix-cache hits left
# out; the rest of the queue is looked at in the next step.
_MAX_STEPS_OF_PROMPTS = 4


def admit_in_order(snapshot: Snapshot) -> StepPlan:
    """All in the table's order; only those named that vLLM could possibly start now.

    None is held back: vLLM's own packing decides which of them fit.
    """
    if not len(snapshot.waiting):
        return STOCK_STEP
    return StepPlan(admit=head_of_queue(snapshot))


def head_of_queue(snapshot: Snapshot) -> list[str]:
    """Ids in table order, up to the free seats and to four steps' worth of prefill.

    Preempted requests are not named: the engine admits them by itself, first.
    """
    waiting, limits = snapshot.waiting, snapshot.limits
    first = int(np.count_nonzero(waiting.started))  # they sort before all others
    seats = max(limits.max_num_seqs - len(snapshot.running) - first, 0)
    tokens = np.cumsum(waiting.prefill_tokens[first : first + seats])
    enough = int(tokens.searchsorted(limits.token_budget * _MAX_STEPS_OF_PROMPTS)) + 1
    last = min(first + seats, first + enough, len(waiting))
    return [waiting[row].request_id for row in range(first, last)]
