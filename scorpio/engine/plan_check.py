"""Can this plan be carried out? Checked before the first mutation: a bad one changes nothing."""

from __future__ import annotations

import numpy as np

from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import Snapshot


class PlanError(RuntimeError):
    """A policy asked for something it must not (a bug in the policy, never the client's fault)."""


def check_plan(plan: StepPlan, snapshot: Snapshot) -> None:
    """Raises PlanError; invariants 3, 8 and 12 (docs/guarantees.md) stand on it."""
    waiting, batch = snapshot.waiting, snapshot.running
    rejected = {r.request_id for r in plan.reject}
    if len(rejected) != len(plan.reject):
        raise PlanError("a request is rejected twice")
    for request_id in rejected:
        if request_id not in waiting and request_id not in _begun(snapshot):
            raise PlanError(f"rejects {request_id!r}, which does not wait for its first token")
    if rejected and any(
        waiting[row].request_id in rejected for row in range(int(waiting.started.sum()))
    ):
        raise PlanError("rejects a request that has already run")
    if plan.admit is not None and not rejected.isdisjoint(plan.admit):
        raise PlanError("admits and rejects the same request")
    rows = np.asarray(plan.skip_decode, dtype=np.int64)
    if len(rows):
        if rows.min() < 0 or rows.max() >= len(batch) or not batch.is_decode[rows].all():
            raise PlanError("skips a row that is not a running decode")
        if len(np.unique(rows)) >= int(batch.is_decode.sum()):
            raise PlanError("skips every decode")
    prefills = (*plan.prefill_order, *plan.defer_prefill)
    if any(not 0 <= row < len(batch) or batch.is_decode[row] for row in prefills):
        raise PlanError("orders or defers a row that is not an unfinished prefill")
    if len(set(plan.prefill_order)) < len(plan.prefill_order):
        raise PlanError("names a prefill twice")
    if plan.drafts is not None and len(plan.drafts) != len(batch):
        raise PlanError(f"{len(plan.drafts)} numbers of drafts for {len(batch)} rows")
    if plan.drafts is not None and any(drafts < 0 for drafts in plan.drafts):
        raise PlanError("fewer than no drafts of a row")
    if plan.token_budget is not None and plan.token_budget < 1:
        raise PlanError(f"token budget {plan.token_budget} < 1")


def _begun(snapshot: Snapshot) -> set[str]:
    batch = snapshot.running
    return {batch.views[row].request_id for row in batch.unanswered.nonzero()[0].tolist()}
