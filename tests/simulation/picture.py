"""7: does the policy see the engine as it is? The snapshot against vLLM's own requests."""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.snapshot import Snapshot
from scorpio.twin.engine.invariants import require
from tests.simulation.scheduler import WatchedScheduler


def check_picture(scheduler: WatchedScheduler, seen: Snapshot) -> None:
    """Called after the step: what cannot have changed since the picture was drawn."""
    batch, slots = seen.running, set(seen.running.slot.tolist())
    require(len(slots) == len(batch), 7, f"two rows share a slot: {sorted(slots)}")
    require(len(batch) <= seen.limits.max_num_seqs, 7, f"{len(batch)} rows")
    wanted = [view.slo.tpot_s for view in batch.views]
    require(bool(np.array_equal(batch.tpot_slo_s, wanted)), 7, "a TPOT SLO is another request's")
    due = [view.deadline_s for view in batch.views]
    require(bool(np.array_equal(batch.deadline_s, due)), 7, "a deadline is another request's")
    for row, view in enumerate(batch.views):
        request = scheduler.requests.get(view.request_id)
        if request is None:
            continue
        tokens = int(batch.context_tokens[row])
        require(0 <= tokens <= request.num_tokens + 2, 7, f"{view.request_id}: context {tokens}")
        first = float(batch.first_token_s[row])
        require(
            math.isnan(first) or first <= scheduler.now_s(), 7,
            f"{view.request_id}: first token at {first}",
        )  # fmt: skip
