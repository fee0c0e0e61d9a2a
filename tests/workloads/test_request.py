"""Do requests carry the promises of the mix, or of the trace when asked, and give them back?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from workloads.errors import WorkloadError
from workloads.named import load_workload
from workloads.request import WorkloadRequest, as_trace, with_own_slos
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace


def test_a_mix_decides_over_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_trace(path, [TraceRow(0.0, 5, 6, (1,), {"slo_ttft_ms": 1.0}, "x")])
    (request,) = load_workload(str(path), mix="product", seed=4)
    assert request == WorkloadRequest(0, 0.0, 5, 6, (1,), "chat", 1.0, 0.06, "x", math.inf)


def test_own_slos() -> None:
    rows = [
        TraceRow(0.0, 5, 6, (1,), {"slo_ttft_ms": "250", "slo_class": "chat"}),
        TraceRow(1.0, 5, 6, (2,), {"slo_tpot_ms": 40.0, "slo_e2el_ms": 9000}),
        TraceRow(2.0, 5, 6, (3,)),
    ]
    slos = [(r.slo_class, r.ttft_slo_s, r.tpot_slo_s, r.e2e_slo_s) for r in with_own_slos(rows)]
    assert slos == [
        ("chat", 0.25, math.inf, math.inf),
        ("", math.inf, 0.04, 9.0),
        ("", math.inf, math.inf, math.inf),
    ]


def test_own_slos_must_be_there() -> None:
    with pytest.raises(WorkloadError, match="no row of the trace states an SLO"):
        with_own_slos([TraceRow(0.0, 5, 6, (1,))])
    rows = [
        TraceRow(0.0, 5, 6, (1,), {"slo_ttft_ms": 5}),
        TraceRow(0.0, 5, 6, (2,), {"slo_class": "chat"}),
    ]
    with pytest.raises(WorkloadError, match="row 1 names class 'chat' without values"):
        with_own_slos(rows)


def test_a_workload_survives_as_a_trace(tmp_path: Path) -> None:
    requests = load_workload("cpu-demo", rows="0:40", mix="cpu", seed=3)
    path = tmp_path / "demo.jsonl"
    write_trace(path, as_trace(requests))
    back = load_workload(str(path), mix="trace")
    assert [r.send_s for r in back] == pytest.approx([r.send_s for r in requests], abs=1e-8)
    for before, after in zip(requests, back, strict=True):
        assert (after.slo_class, after.ttft_slo_s) == (before.slo_class, before.ttft_slo_s)
        assert after.tpot_slo_s == pytest.approx(before.tpot_slo_s)
        assert after.hash_ids == before.hash_ids
