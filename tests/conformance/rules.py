"""Which plans are lawful? Written apart from the engine's own check, so that both are tested."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.snapshot import Snapshot


def assert_lawful(plan: StepPlan, snapshot: Snapshot) -> None:
    """Invariants 2, 3, 8, 12 and 32, and the fields of the plan themselves."""
    assert_told(plan, snapshot)
    if plan.stock:
        return
    batch, table = snapshot.running, snapshot.waiting
    waiting = {view.request_id for view in table}
    started = {table[row].request_id for row in range(len(table)) if table.started[row]}
    rejected = [rejection.request_id for rejection in plan.reject]
    assert len(rejected) == len(set(rejected)), "rejects one twice"
    begun = {
        view.request_id
        for view, decode, produced in zip(
            batch.views, batch.is_decode, batch.output_tokens, strict=True
        )
        if not decode and produced == 0
    }
    assert set(rejected) <= waiting | begun, "rejects one that waits for no first token"
    assert not set(rejected) & started, "rejects one that was preempted"
    slo_of = {view.request_id: view.slo for view in (*table, *batch.views)}
    assert all(slo_of[name].refusable for name in set(rejected) & begun), "rejects against its word"
    for rejection in plan.reject:
        slo, reason = slo_of[rejection.request_id], rejection.reason
        if reason is not RejectReason.KV_INFEASIBLE:
            assert slo.any, "rejects one that asked for nothing"
        if reason is RejectReason.TTFT_INFEASIBLE:
            assert math.isfinite(min(slo.ttft_s, slo.e2e_s)), (
                "misses a deadline that was not stated"
            )
        assert isinstance(rejection.reason, RejectReason)
        for value in (rejection.attainable_ttft_s, rejection.retry_after_s):
            assert value is None or (math.isfinite(value) and value >= 0.0)
    if plan.admit is not None:
        admitted = list(plan.admit)
        assert len(admitted) == len(set(admitted)), "admits one twice"
        assert set(admitted) <= waiting, "admits one that is not waiting"
        assert not set(admitted) & set(rejected), "admits and rejects the same request"
    skipped = list(plan.skip_decode)
    decodes = set(np.flatnonzero(batch.is_decode).tolist())
    assert len(skipped) == len(set(skipped)), "skips a row twice"
    assert set(skipped) <= decodes, "skips a row that is not a decode"
    assert not decodes or len(skipped) < len(decodes), "skips every decode"
    deferred = list(plan.defer_prefill)
    assert len(deferred) == len(set(deferred)), "defers a row twice"
    assert set(deferred) <= set(range(len(batch))) - decodes, "defers what is not a prefill"
    refused = [row for row in deferred if batch.views[row].request_id in rejected]
    stays = len(batch) - len(refused)
    if stays and len(skipped) + len(deferred) - len(refused) == stays:
        assert plan.admit is None or plan.admit or started, "holds all back for none"
    if plan.token_budget is not None:
        assert plan.token_budget >= max(len(decodes) - len(skipped), 1), "budget starves a decode"


def assert_told(plan: StepPlan, snapshot: Snapshot) -> None:
    """Forecasts are about those who wait and are not refused, once each, and are times."""
    told = [forecast.request_id for forecast in plan.forecasts]
    assert len(told) == len(set(told)), "forecasts for one twice"
    assert set(told) <= {view.request_id for view in snapshot.waiting}
    assert not set(told) & {rejection.request_id for rejection in plan.reject}
    for forecast in plan.forecasts:
        for value in (forecast.ttft_s, forecast.tpot_s):
            assert math.isfinite(value)
            assert value >= 0.0


def frozen(snapshot: Snapshot) -> tuple[object, ...]:
    """A value that differs after any change to the snapshot a policy could make."""
    batch = snapshot.running
    columns = [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    table = snapshot.waiting
    columns += [
        table.deadline_s,
        table.tpot_slo_s,
        table.prompt_tokens,
        table.cached_tokens,
        table.predicted_output_tokens,
        table.expected_output_tokens,
        table.arrival_s,
        table.started,
        table.rejectable,
        table.degradable,
        table.seqs(),
    ]
    return (
        *(c.tobytes() if isinstance(c, np.ndarray) else tuple(c) for c in columns),
        tuple(table),
        snapshot.limits,
        snapshot.kv_free_tokens,
        repr(snapshot.executing_since_s),
    )
