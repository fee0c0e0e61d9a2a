"""What did one run achieve? The numbers of `summary.json`, from request records alone.

Every count is over ALL requests sent, so that shedding is never free:
sent = good + violations + rejected + failed + timed_out. Goodput divides by the arrival window of
the trace (first to last scheduled arrival), never by the time the server took to drain.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from workloads.results.records import Miss, Outcome, RequestRecord
from workloads.results.run_summary import ClassSummary, EngineStats, Percentiles, RunKey, RunSummary

VOID_LATENESS_MS = 10.0
_ERRORS_KEPT = 10
_NUMBER = re.compile(r"\d+")


def summarise(
    key: RunKey,
    records: Sequence[RequestRecord],
    engine: EngineStats | None = None,
    *,
    window_s: float | None = None,
) -> RunSummary:
    """Records of one run -> its summary.

    Args:
        window_s: arrival window when it is not the one seen in the records.

    Raises:
        ValueError: no records, or one request recorded twice.
    """
    if not records:
        raise ValueError("a run without requests has no summary")
    if len({record.index for record in records}) != len(records):
        raise ValueError("one request is recorded twice")
    engine = engine or EngineStats()
    window_s = arrival_window_s(records) if window_s is None else window_s
    duration_s = span_s(records)
    outcomes = Counter(record.outcome for record in records)
    rejected, good = outcomes[Outcome.REJECTED], sum(record.good for record in records)
    lateness_ms = percentiles(record.lateness_s * 1000.0 for record in records)
    void_reason = _void_reason(records, lateness_ms["p99"])
    return RunSummary(
        **key.fields(),
        offered_rps=_per_second(len(records), window_s),
        sent=len(records),
        good=good,
        attainment=good / len(records),
        goodput_rps=_per_second(good, window_s),
        admitted=len(records) - rejected,
        admitted_share=1.0 - rejected / len(records),
        rejected=rejected,
        rejected_by_reason=_reasons(records),
        failed=outcomes[Outcome.FAILED],
        timed_out=outcomes[Outcome.TIMED_OUT],
        failed_by_error=_errors(records),
        violations=violations(records),
        by_class=by_class(records),
        single_token=_single_token(records),
        ttft_ms=ttft_percentiles_ms(records),
        tpot_ms=tpot_percentiles_ms(records),
        output_tokens_per_s=_per_second(sum(r.output_tokens for r in records), duration_s),
        preemptions=_preemptions(records) if engine.preemptions is None else engine.preemptions,
        steps=engine.steps,
        schedule_us={name: (engine.schedule_us or {}).get(name) for name in ("p50", "p99")},
        wall_s=engine.wall_s,
        window_s=window_s,
        duration_s=duration_s,
        rejection_ms=_rejection_ms(records),
        client_lateness_ms=lateness_ms,
        void=void_reason is not None,
        void_reason=void_reason,
        tries=sum(record.tries for record in records),
        good_in_last_try=sum(record.good_in_last_try for record in records),
        value_goodput=_per_second(sum(r.value for r in records if r.good), window_s),
    )


def _single_token(records: Iterable[RequestRecord]) -> dict[str, int]:
    """Those without a TPOT."""
    single = [r for r in records if r.outcome is Outcome.FINISHED and r.output_tokens == 1]
    return {"sent": len(single), "good": sum(record.good for record in single)}


def _preemptions(records: Iterable[RequestRecord]) -> int:
    return sum(record.preemptions for record in records)


def _rejection_ms(records: Iterable[RequestRecord]) -> Percentiles:
    """How long it took to refuse."""
    return percentiles(
        (record.ended_s - record.asked_s) * 1000.0
        for record in records
        if record.outcome is Outcome.REJECTED and record.ended_s is not None
    )


def by_class(records: Iterable[RequestRecord]) -> dict[str, ClassSummary]:
    """Summary per SLO class, classes in alphabetical order."""
    groups: dict[str, list[RequestRecord]] = {}
    for record in records:
        groups.setdefault(record.slo_class, []).append(record)
    return {name: _class_summary(groups[name]) for name in sorted(groups)}


def _class_summary(group: Sequence[RequestRecord]) -> ClassSummary:
    good = sum(record.good for record in group)
    outcomes = Counter(record.outcome for record in group)
    return ClassSummary(
        sent=len(group),
        good=good,
        attainment=good / len(group),
        rejected=outcomes[Outcome.REJECTED],
        failed=outcomes[Outcome.FAILED] + outcomes[Outcome.TIMED_OUT],
        ttft_slo_ms=_common_ms({record.ttft_slo_s for record in group}),
        tpot_slo_ms=_common_ms({record.tpot_slo_s for record in group}),
        ttft_ms=ttft_percentiles_ms(group),
        tpot_ms=tpot_percentiles_ms(group),
    )


def violations(records: Iterable[RequestRecord]) -> dict[str, int]:
    """Finished requests that broke a promise: only TTFT, only TPOT, or both (each counted once).
    The key `e2e` (only the end-to-end one) appears when some request asked for it."""
    records = list(records)
    counts = Counter(record.miss for record in records)
    names = [Miss.TTFT, Miss.TPOT, Miss.BOTH]
    if any(math.isfinite(record.e2e_slo_s) for record in records):
        names.append(Miss.E2E)
    return {name.value: counts[name] for name in names}


def ttft_percentiles_ms(records: Iterable[RequestRecord]) -> Percentiles:
    """p50, p90, p99 of TTFT over requests that got a first token."""
    return percentiles(r.ttft_s * 1000.0 for r in records if r.ttft_s is not None)


def tpot_percentiles_ms(records: Iterable[RequestRecord]) -> Percentiles:
    """p50, p90, p99 of TPOT over finished requests with at least two tokens."""
    return percentiles(
        record.tpot_s * 1000.0
        for record in records
        if record.outcome is Outcome.FINISHED and record.tpot_s is not None
    )


def percentiles(values: Iterable[float]) -> Percentiles:
    """p50, p90, p99; None when there are no values."""
    data = np.fromiter(values, dtype=np.float64)
    if data.size == 0:
        return {"p50": None, "p90": None, "p99": None}
    p50, p90, p99 = (float(value) for value in np.percentile(data, [50, 90, 99]))
    return {"p50": p50, "p90": p90, "p99": p99}


def arrival_window_s(records: Iterable[RequestRecord]) -> float:
    """First to last time at which a request was to be sent."""
    arrivals = [record.due_s for record in records]
    return max(arrivals) - min(arrivals)


def span_s(records: Iterable[RequestRecord]) -> float:
    """First send to the last thing that happened (drain included)."""
    records = list(records)
    first_s = min(record.send_s for record in records)
    return max(0.0, max(record.end_s for record in records) - first_s)


def _reasons(records: Iterable[RequestRecord]) -> dict[str, int]:
    counts = Counter(r.reject_reason for r in records if r.reject_reason is not None)
    return dict(sorted(counts.items()))


def _errors(records: Iterable[RequestRecord]) -> dict[str, int]:
    """What requests failed or timed out of, the commonest first; texts that differ in a number
    alone count together, under the first of them."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for record in records:
        if record.outcome in (Outcome.FAILED, Outcome.TIMED_OUT):
            text = record.error or record.outcome.value
            counts[first.setdefault(_NUMBER.sub("#", text), text)] += 1
    return dict(counts.most_common(_ERRORS_KEPT))


def _void_reason(records: Sequence[RequestRecord], p99_lateness_ms: float | None) -> str | None:
    own = [record for record in records if record.client_fault]
    if own:
        share = f"{len(own)} of {len(records)} requests failed at the client itself"
        return f"{share}: {next(iter(_errors(own)))}"
    if p99_lateness_ms is None or p99_lateness_ms <= VOID_LATENESS_MS:
        return None
    return (
        f"the client was late: p99 {p99_lateness_ms:.1f} ms behind its own schedule"
        f" (limit {VOID_LATENESS_MS:g} ms)"
    )


def _common_ms(slos_s: set[float]) -> float | None:
    """The SLO of a class when all its requests share it and it is finite."""
    value_s = next(iter(slos_s))
    return value_s * 1000.0 if len(slos_s) == 1 and math.isfinite(value_s) else None


def _per_second(count: float, span: float) -> float | None:
    return count / span if span > 0.0 else None
