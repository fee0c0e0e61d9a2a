"""How close is the twin to a real engine? The same arrivals, the same numbers, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from workloads.results.records import RequestRecord

# (TTFT s, TPOT ms): from strict to lax around what a loaded 8B model does
SLO_PAIRS = ((0.5, 30.0), (0.5, 40.0), (2.0, 35.0), (5.0, 40.0), (10.0, 35.0), (15.0, 50.0))

_LEAST_MS = 1e-6  # below it is rounding


@dataclass(frozen=True, slots=True)
class FidelityRow:
    """One metric; `error` is twin / real - 1 for times, twin - real (a share) for attainment.

    around: real attainment with both SLOs 1 % tighter and 1 % looser. Where these lie far apart
    the SLO sits amid the crowd, and even a twin that is 1 % off in time must be off by that much.
    """

    metric: str
    real: float
    twin: float
    error: float
    around: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class LogCase:
    """One model against one part of a log."""

    title: str
    rows: list[FidelityRow]

    @property
    def worst(self) -> float:
        """Largest error of the table."""
        return worst(self.rows)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return {"title": self.title, "worst": self.worst, "rows": to_dicts(self.rows)}


def fidelity(
    real: Sequence[RequestRecord],
    twin: Sequence[RequestRecord],
    slo_pairs: Sequence[tuple[float, float]] = SLO_PAIRS,
) -> list[FidelityRow]:
    """Mean and percentiles of TTFT and TPOT, and attainment for each SLO pair. A real time of
    zero, and one that no request has, stand in no row.

    Raises:
        ValueError: not the same requests.
    """
    if [r.index for r in real] != [r.index for r in twin]:
        raise ValueError("the two runs hold different requests")
    rows = []
    for name in ("ttft", "tpot"):
        for statistic, a, b in zip(
            ("mean", "p50", "p90", "p99"), _times(real, name), _times(twin, name), strict=True
        ):
            if a > _LEAST_MS:
                rows.append(FidelityRow(f"{name} {statistic} ms", a, b, b / a - 1.0))
    for ttft_s, tpot_ms in slo_pairs:
        a, b = (_attainment(records, ttft_s, tpot_ms / 1000.0) for records in (real, twin))
        around = [_attainment(real, ttft_s * x, tpot_ms / 1000.0 * x) for x in (0.99, 1.01)]
        name = f"attained {ttft_s:g} s / {tpot_ms:g} ms"
        rows.append(FidelityRow(name, a, b, b - a, (around[0], around[1])))
    return rows


def crowd_pairs(real: Sequence[RequestRecord]) -> list[tuple[float, float]]:
    """SLO pairs amid what this engine did, the hardest to tell: nine of ten first tokens come in
    time, and half or nine of ten answers run fast enough."""
    ttft_s = [r.ttft_s for r in real if r.ttft_s is not None]
    tpot_ms = [r.tpot_s * 1000.0 for r in real if r.tpot_s is not None]
    if not ttft_s or not tpot_ms:
        return []
    most_s = float(f"{np.percentile(ttft_s, 90):.3g}")
    return [(most_s, float(f"{np.percentile(tpot_ms, share):.3g}")) for share in (50, 90)]


def worst(rows: Sequence[FidelityRow]) -> float:
    """The largest error, as a fraction for times and as a share for attainment."""
    return max(abs(row.error) for row in rows)


def to_dicts(rows: Sequence[FidelityRow]) -> list[dict[str, object]]:
    """Plain values for JSON."""
    return [asdict(row) for row in rows]


def _times(records: Sequence[RequestRecord], name: str) -> tuple[float, ...]:
    values = [r.ttft_s if name == "ttft" else r.tpot_s for r in records]
    ms = np.array([v for v in values if v is not None] or [0.0]) * 1000.0
    return (float(ms.mean()), *(float(p) for p in np.percentile(ms, (50, 90, 99))))


def _attainment(records: Sequence[RequestRecord], ttft_s: float, tpot_s: float) -> float:
    kept = [
        r.ttft_s is not None and r.ttft_s <= ttft_s and (r.tpot_s is None or r.tpot_s <= tpot_s)
        for r in records
    ]
    return sum(kept) / len(kept)
