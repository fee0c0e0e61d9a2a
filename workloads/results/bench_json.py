"""How does a run look to tools that read `vllm bench serve` results? The same keys, and ours.

Keys of `vllm bench serve` keep its meaning: latency statistics are over finished requests, and
`request_goodput` divides by the whole duration, drain included. `slo_attainment*` and
`goodput_slos_ms` are SGLang's. Our own numbers are under `scorpio`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.results.records import TIME_TOLERANCE_S, Outcome, RequestRecord
from workloads.results.run_summary import RunSummary

_PERCENTILES = (50, 90, 95, 99)


def bench_result(
    summary: RunSummary,
    records: Sequence[RequestRecord],
    *,
    model_id: str,
    date: str,
    backend: str = "openai",
    detailed: bool = False,
) -> dict[str, Any]:
    """One run as `vllm bench serve --save-result [--save-detailed]` would write it.

    Args:
        date: as `%Y%m%d-%H%M%S`.
        detailed: also the per-request arrays (seconds; a failed request is 0 and []).
            `itls` is empty where token times are not known; `generated_texts` is always empty.
    """
    done = [record for record in records if record.outcome is Outcome.FINISHED]
    duration_s = summary.duration_s or math.nan
    prompt_tokens = sum(record.prompt_tokens for record in done)
    output_tokens = sum(record.output_tokens for record in done)
    result: dict[str, Any] = {
        "date": date,
        "endpoint_type": backend,
        "backend": backend,
        "label": summary.policy,
        "model_id": model_id,
        "tokenizer_id": model_id,
        "num_prompts": len(records),
        "request_rate": summary.offered_rps if summary.offered_rps is not None else "inf",
        "burstiness": None,  # send times come from a trace
        "max_concurrency": None,
        "duration": summary.duration_s,
        "completed": len(done),
        "failed": len(records) - len(done),
        "total_input_tokens": prompt_tokens,
        "total_output_tokens": output_tokens,
        "request_throughput": _finite(len(done) / duration_s),
        "request_goodput": _finite(summary.good / duration_s),
        "output_throughput": _finite(output_tokens / duration_s),
        "total_token_throughput": _finite((prompt_tokens + output_tokens) / duration_s),
        "max_output_tokens_per_s": _peak_tokens_per_s(done),
        "max_concurrent_requests": _peak_concurrency(records),
        "rtfx": 0.0,
        "slo_attainment": summary.attainment,
        "slo_attainment_by_metric": _attainment_by_metric(records),
        "goodput_slos_ms": _shared_slos_ms(records),
        "scorpio": summary.to_dict(),
    }
    itls = [_gaps(record) for record in done]
    result |= _statistics("ttft", (r.ttft_s for r in done if r.ttft_s is not None))
    result |= _statistics("tpot", (r.tpot_s for r in done if r.tpot_s is not None))
    result |= _statistics("itl", (gap for gaps in itls for gap in gaps))
    result |= _statistics("e2el", (r.e2e_s for r in done if r.e2e_s is not None))
    return result | _arrays(records) if detailed else result


def _arrays(records: Sequence[RequestRecord]) -> dict[str, list[Any]]:
    ok = [record.outcome is Outcome.FINISHED for record in records]
    pairs = list(zip(records, ok, strict=True))
    return {
        "input_lens": [record.prompt_tokens for record in records],
        "output_lens": [record.output_tokens if good else 0 for record, good in pairs],
        "ttfts": [record.ttft_s if good else 0.0 for record, good in pairs],
        "itls": [_gaps(record) if good else [] for record, good in pairs],
        "latencies": [record.e2e_s if good else 0.0 for record, good in pairs],
        "start_times": [record.send_s for record in records],
        "queue_times": [0.0] * len(records),  # an open-loop client never queues
        "generated_texts": [""] * len(records),
        "errors": [
            "" if good else (record.reject_reason or record.error or record.outcome.value)
            for record, good in pairs
        ],
    }


def _gaps(record: RequestRecord) -> list[float]:
    times = record.token_times_s or ()
    return [round(later - earlier, 9) for earlier, later in itertools.pairwise(times)]


def _statistics(name: str, values_s: Iterable[float]) -> dict[str, float]:
    data: NDArray[np.float64] = np.fromiter(values_s, dtype=np.float64) * 1000.0
    if data.size == 0:
        data = np.zeros(1)  # as `vllm bench serve` does
    ranked = np.percentile(data, _PERCENTILES)
    return {
        f"mean_{name}_ms": float(data.mean()),
        f"median_{name}_ms": float(np.median(data)),
        f"std_{name}_ms": float(data.std()),
        **{f"p{p}_{name}_ms": float(v) for p, v in zip(_PERCENTILES, ranked, strict=True)},
    }


def _attainment_by_metric(records: Sequence[RequestRecord]) -> dict[str, float]:
    """Share of ALL sent requests that finished and kept this one promise (or had none)."""

    def kept(value_s: float | None, slo_s: float) -> bool:
        return value_s is None or value_s <= slo_s + TIME_TOLERANCE_S

    done = [record for record in records if record.outcome is Outcome.FINISHED]
    return {
        "ttft": sum(kept(r.ttft_s, r.ttft_slo_s) for r in done) / len(records),
        "tpot": sum(kept(r.tpot_s, r.tpot_slo_s) for r in done) / len(records),
        "e2el": sum(kept(r.e2e_s, r.e2e_slo_s) for r in done) / len(records),
    }


def _shared_slos_ms(records: Sequence[RequestRecord]) -> dict[str, float] | None:
    """The SLOs that all requests share; None in a mix (then see `scorpio.by_class`)."""
    shared = {}
    for name in ("ttft", "tpot", "e2e"):
        values = {getattr(record, f"{name}_slo_s") for record in records}
        if len(values) == 1 and math.isfinite(value := next(iter(values))):
            shared["e2el" if name == "e2e" else name] = value * 1000.0
    return shared or None


def _peak_tokens_per_s(done: Sequence[RequestRecord]) -> float:
    """Most tokens in one second; tokens without their own time are spread evenly."""
    times: list[float] = []
    for record in done:
        if record.token_times_s is not None:
            times.extend(record.token_times_s)
        elif record.first_token_s is not None and record.last_token_s is not None:
            times.extend(
                np.linspace(record.first_token_s, record.last_token_s, record.output_tokens)
            )
    if not times:
        return 0.0
    seconds = np.floor(np.asarray(times) - min(record.send_s for record in done)).astype(np.int64)
    return float(np.bincount(seconds).max())


def _peak_concurrency(records: Sequence[RequestRecord]) -> int:
    """Most requests in flight at one moment."""
    events = [(record.send_s, 1) for record in records]
    events += [(record.end_s, -1) for record in records]
    now = peak = 0
    for _, change in sorted(events):  # at one instant, ends come before starts
        now += change
        peak = max(peak, now)
    return peak


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
