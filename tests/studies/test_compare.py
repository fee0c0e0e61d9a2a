"""`scorpio compare --engine twin`: what it writes, what it refuses, and the stock settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scorpio.engine.virtual.build import EngineSpec
from scorpio.studies.compare import run_compare
from scorpio.studies.compare_spec import CompareSpec
from scorpio.studies.tuning_space import BUDGETS, QUEUE_CAPS, grid_options
from scorpio.twin.gpu.profile_samples import profile_gpu
from scorpio.twin.gpu.step_models import BUILT_IN
from scorpio.twin.systems import Setting, make_system, system_names
from tests.twin.driving import promised
from workloads.errors import WorkloadError
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace

GPU = "a100-llama-3.1-8b"


@pytest.fixture
def spec(tmp_path: Path) -> CompareSpec:
    """Sixty short requests, two loads, two seeds."""
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, [TraceRow(0.05 * i, 300 + 40 * (i % 9), 3 + i % 8) for i in range(60)])
    return CompareSpec(
        gpu=GPU,
        trace=str(trace),
        mix="six",
        rate_scales=(1.0, 4.0),
        policies=("fcfs", "scorpio-paper"),
        seeds=(0, 1),
        out_dir=tmp_path / "out",
        engine=EngineSpec(max_num_seqs=16, num_blocks=500),
    )


def _without_wall_times(value: Any) -> Any:
    if isinstance(value, dict):
        mine = {"wall_s", "schedule_us"}
        return {k: _without_wall_times(v) for k, v in value.items() if k not in mine}
    return [_without_wall_times(v) for v in value] if isinstance(value, list) else value


def test_summary_report_and_records_are_written(spec: CompareSpec) -> None:
    seen: list[tuple[int, int, str]] = []

    run_compare(replace(spec, bound=True), lambda *told: seen.append(told))
    summary = json.loads((spec.out_dir / "summary.json").read_text())
    assert len(summary["runs"]) == 8
    assert {r["engine"] for r in summary["runs"]} == {"twin"}
    assert {r["sent"] for r in summary["runs"]} == {60}
    good = {(r["rate_scale"], r["seed"]): r["good"] for r in summary["runs"]}
    assert len(summary["bound"]) == 4
    assert all(good[b["rate_scale"], b["seed"]] <= b["good"] <= 60 for b in summary["bound"])
    assert [n for n, _, _ in seen] == list(range(1, 13))
    assert {total for _, total, _ in seen} == {12}
    assert len(list((spec.out_dir / "records").glob("*.jsonl"))) == 8
    assert (spec.out_dir / "report.html").stat().st_size > 10_000


def test_summary_does_not_depend_on_the_number_of_workers(spec: CompareSpec) -> None:
    results = []
    for workers in (1, 2):
        one = replace(spec, out_dir=spec.out_dir / str(workers), workers=workers)
        results.append(_without_wall_times(run_compare(one).to_dict()))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": ("fcfs", "lifo")}, "unknown policy 'lifo'; valid: edf, fairbatching, fcfs, "),
        ({"gpu": "h200"}, "'h200'; valid: 24gb-llama"),
        ({"mix": "seven"}, "unknown mix 'seven'; valid: "),
        ({"trace": "nowhere"}, "'nowhere'; valid: azure-code-synth, azure-conv"),
        ({"rows": "50:70"}, "rows 50:70"),
        ({"rate_scales": (1.0, 0.0)}, "rate scale"),
        ({"seeds": (1, 1)}, "seeds: at least one, and none twice"),
        ({"policies": ()}, "policies: at least one"),
    ],
)
def test_nonsense_is_refused_in_one_line_and_nothing_written(
    spec: CompareSpec, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(WorkloadError) as caught:
        run_compare(replace(spec, **change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not spec.out_dir.exists()


def test_prefix_caching_is_on_where_prefixes_are_shared(spec: CompareSpec) -> None:
    default = replace(spec, engine=None)
    assert not default.config().engine.enable_prefix_caching
    rows = [TraceRow(0.1 * i, 600, 5, hash_ids=(1, 2 + i)) for i in range(5)]
    write_trace(spec.trace, rows)
    other = replace(default, rows="0:5")
    assert other.config().engine.enable_prefix_caching
    assert other.config().engine.num_blocks == BUILT_IN[GPU].kv_blocks


def test_grid_leaves_out_what_vllm_refuses() -> None:
    assert len(grid_options(256)) == len(BUDGETS) * len(QUEUE_CAPS)
    assert min(o["max_num_batched_tokens"] for o in grid_options(1000)) == 1024


def _setting(**options: float) -> Setting:
    gpu = BUILT_IN[GPU]
    crowd = [promised(0, 0.0, ttft_s=0.5, tpot_s=0.05), promised(1, 1.0, ttft_s=5.0, tpot_s=0.05)]
    from scorpio.twin.gpu.noise import NO_NOISE

    return Setting(EngineSpec(), profile_gpu(gpu, NO_NOISE, 0, 320_000), crowd, options)


def test_stock_recipes_set_the_flags_they_name() -> None:
    assert make_system("fcfs", _setting()).spec == EngineSpec()
    tuned = make_system("fcfs-tuned", _setting()).spec
    assert (tuned.max_num_batched_tokens, tuned.max_num_queued_tokens) == (512, 6000)
    mine = make_system(
        "fcfs-tuned", _setting(max_num_batched_tokens=1024, max_num_queued_tokens=0)
    ).spec
    assert (mine.max_num_batched_tokens, mine.max_num_queued_tokens) == (1024, None)
    # 0.5 s x about 2048 tokens per 0.12 s, as measured
    cap = make_system("fcfs+queue-cap", _setting()).spec.max_num_queued_tokens
    assert cap == pytest.approx(0.5 * 2048 / 0.125, rel=0.1)
    adaptive = make_system("fcfs+adaptive-long-prefill", _setting()).spec
    assert adaptive.long_prefill_token_threshold == 512
    assert adaptive.long_prefill_token_threshold_adaptive
    assert make_system("priority-edf", _setting()).spec.policy == "priority"
    assert make_system("scorpio-paper", _setting()).policy == "scorpio-paper"
    assert {"fcfs", "fcfs-tuned", "priority-edf", "scorpio-paper"} <= set(system_names())


def test_queue_cap_without_promises_is_no_cap() -> None:
    quiet = replace(_setting(), requests=[promised(0, 0.0)])
    assert make_system("fcfs+queue-cap", quiet).spec.max_num_queued_tokens is None
