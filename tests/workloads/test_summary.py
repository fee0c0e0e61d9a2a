"""A folder of results: the documented schema, whole files, and numbers that follow from records."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.workloads.sample_runs import fill, known_runs, sample_run
from tests.workloads.test_records import record, rejected
from workloads.errors import WorkloadError
from workloads.load import LoadKey
from workloads.report.result_table import print_tables
from workloads.results.aggregate import paired_gain
from workloads.results.bench_json import bench_result
from workloads.results.metrics import summarise
from workloads.results.record_files import read_records
from workloads.results.run_summary import RunKey
from workloads.results.summary import Comparison

RUN_FIELDS = [
    "policy",
    "engine",
    "gpu",
    "trace",
    "mix",
    "rate_scale",
    "seed",
    "offered_rps",
    "sent",
    "good",
    "attainment",
    "goodput_rps",
    "admitted",
    "rejected",
    "rejected_by_reason",
    "violations",
    "by_class",
    "ttft_ms",
    "tpot_ms",
    "output_tokens_per_s",
    "preemptions",
    "steps",
    "schedule_us",
    "wall_s",
]


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Three policies at two loads, two seeds each, with a bound."""
    one = Comparison(tmp_path / "out")
    fill(one, ("fcfs", "fcfs-tuned", "scorpio"), (0.8, 1.6), (0, 1), requests=80)
    return one


def test_schema_of_summary_json(comparison: Comparison) -> None:
    content = json.loads(comparison.write().read_text())
    assert content["schema"] == 1
    assert len(content["runs"]) == 12
    for run in content["runs"]:
        assert set(RUN_FIELDS) <= run.keys()
        assert set(run["violations"]) == {"ttft", "tpot", "both"}
        assert set(run["ttft_ms"]) == set(run["tpot_ms"]) == {"p50", "p90", "p99"}
        assert set(run["schedule_us"]) == {"p50", "p99"}
        records = read_records(comparison.out_dir / run["records_file"])
        assert (len(records), sum(r.good for r in records)) == (run["sent"], run["good"])
    assert [set(bound) for bound in content["bound"]] == [
        {"trace", "mix", "rate_scale", "seed", "good"}
    ] * 4


def test_order_of_adding_does_not_matter(comparison: Comparison, tmp_path: Path) -> None:
    other = Comparison(tmp_path / "other")
    for run in reversed(comparison.runs):
        other.add_run(run.summary.key, run.records)
    mine, theirs = comparison.to_dict(), other.to_dict()
    order = [(r["rate_scale"], r["policy"], r["seed"]) for r in mine["runs"]]
    assert order == [(r["rate_scale"], r["policy"], r["seed"]) for r in theirs["runs"]]
    assert order[:4] == [(0.8, "fcfs", 0), (0.8, "fcfs", 1), (0.8, "fcfs-tuned", 0),
                         (0.8, "fcfs-tuned", 1)]  # fmt: skip


def test_load_gives_back_what_was_written(comparison: Comparison) -> None:
    comparison.write()
    again = Comparison.load(comparison.out_dir)
    assert again.to_dict() == comparison.to_dict()
    assert again.points() == comparison.points()


def test_one_run_cannot_be_added_twice(comparison: Comparison) -> None:
    run = comparison.runs[0]
    with pytest.raises(ValueError, match="added twice"):
        comparison.add_run(run.summary.key, run.records)


def test_file_names_stay_apart_and_inside_the_folder(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path)
    base = sample_run("fcfs", 1.0, 0, 5)
    keys = [
        replace(base.key, load=replace(base.key.load, trace=trace), repeat=repeat)
        for trace in ("/a/t.jsonl", "/b/t.jsonl", "../../x")
        for repeat in (0, 1)
    ]
    files = [comparison.add_run(key, base.records).records_file for key in keys]
    assert len(set(files)) == len(keys)
    assert sorted(str(f) for f in files) == sorted(
        f"records/{path.name}" for path in (tmp_path / "records").iterdir()
    )


def test_failure_while_writing_leaves_the_old_file(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = comparison.write()
    before = path.read_bytes()

    def no_space(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        comparison.write()
    assert path.read_bytes() == before
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize("text", ["{}", "[", '{"schema": 2, "runs": [], "bound": []}'])
def test_a_folder_that_is_no_comparison(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(WorkloadError, match=r"summary\.json"):
        Comparison.load(tmp_path)
    with pytest.raises(WorkloadError, match=r"summary\.json"):
        Comparison.load(tmp_path / "missing")


def test_points_from_known_runs(tmp_path: Path) -> None:
    stock, ours = known_runs(tmp_path).points()
    assert (stock.policy, ours.policy) == ("fcfs", "scorpio")
    assert ours.attainment is not None
    assert ours.attainment.mean == 0.75
    assert ours.goodput_rps is not None
    assert ours.goodput_rps.mean == pytest.approx(3 / 6.0)  # four arrivals 2 s apart
    assert ours.offered_rps == pytest.approx(4 / 6.0)
    assert ours.gain is not None
    assert ours.gain.mean == pytest.approx(0.25)
    assert ours.ratios == {"fcfs": 1.5, "fcfs-tuned": None}
    assert ours.rejected_share == 0.25
    assert (ours.bound_attainment, ours.of_bound) == (1.0, 0.75)
    assert stock.gain is None
    assert stock.of_bound == 0.5


def test_void_runs_take_no_part(comparison: Comparison) -> None:
    late = sample_run("fcfs", 0.8, 7, 80)
    records = [replace(r, send_s=r.send_s + 0.05) for r in late.records]
    assert comparison.add_run(late.key, records).void
    point = comparison.points()[0]
    assert point.void_runs == 1
    assert {run.summary.seed for run in point.runs} == {0, 1}


def test_pairs_must_be_the_same_requests() -> None:
    ours = sample_run("scorpio", 1.0, 0, 30).records
    gain = paired_gain([(ours, sample_run("fcfs", 1.0, 0, 30).records)])
    assert gain.values == 30
    with pytest.raises(ValueError, match="same requests"):
        paired_gain([(ours, sample_run("fcfs", 1.0, 1, 30).records)])
    with pytest.raises(ValueError, match="same requests"):
        paired_gain([(ours, ours[:-1])])


@pytest.mark.parametrize("width", [80, 160])
def test_table_fits_and_tells(comparison: Comparison, width: int) -> None:
    text = io.StringIO()
    print_tables(comparison.points(), Console(file=text, width=width))
    lines = text.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    assert "…" not in text.getvalue()
    assert "azure-conv, mix six, a100-llama-3.1-8b (twin)" in lines[0]
    stock, ours = comparison.points()[3], comparison.points()[5]
    assert stock.attainment is not None
    assert ours.goodput_rps is not None
    row = next(line for line in lines[lines.index(lines[0]) :] if line.startswith(" scorpio"))
    assert len(row.split()) >= 8
    assert any(f"{100 * stock.attainment.mean:.1f}" in line.split() for line in lines)
    assert any(f"{ours.goodput_rps.mean:.2f}" in line.split() for line in lines)
    assert ("points over fcfs" in text.getvalue()) == (width == 160)


VLLM_KEYS = [
    "date",
    "endpoint_type",
    "backend",
    "label",
    "model_id",
    "tokenizer_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
    "rtfx",
] + [
    f"{statistic}_{metric}_ms"
    for statistic in ("mean", "median", "std", "p99")
    for metric in ("ttft", "tpot", "itl", "e2el")
]
VLLM_ARRAYS = [
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "queue_times",
    "generated_texts",
    "errors",
]


def test_bench_result_is_a_superset_of_vllm_bench_serve() -> None:
    run = sample_run("scorpio", 1.6, 0, 60)
    summary = summarise(run.key, run.records)
    result = bench_result(summary, run.records, model_id="m", date="20250101-000000", detailed=True)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(VLLM_KEYS + VLLM_ARRAYS) <= result.keys()
    assert {len(result[name]) for name in VLLM_ARRAYS} == {60}
    plain = bench_result(summary, run.records, model_id="m", date="20250101-000000")
    assert not plain.keys() & set(VLLM_ARRAYS)
    assert plain["completed"] + plain["failed"] == 60
    assert plain["request_goodput"] * plain["duration"] == pytest.approx(summary.good)
    assert plain["slo_attainment"] == summary.attainment
    assert plain["slo_attainment_by_metric"]["ttft"] >= summary.attainment
    assert plain["goodput_slos_ms"] is None  # a mix has no single SLO


def test_bench_result_by_hand() -> None:
    """Two overlapping requests, one of them refused: numbers that can be checked on paper."""
    key = RunKey(policy="p", engine="live", gpu="g", load=LoadKey("t", None, "m", 1.0, 0))
    tokens = (10.4, 10.5, 10.9)
    records = [
        record(output_tokens=3, token_times_s=tokens, ended_s=11.0),
        rejected(index=1, send_s=10.5, scheduled_send_s=10.5, ended_s=10.6),
    ]
    result = bench_result(summarise(key, records), records, model_id="m", date="d", detailed=True)
    assert result["duration"] == pytest.approx(1.0)
    assert result["output_throughput"] == pytest.approx(3.0)
    assert result["itls"] == [pytest.approx([0.1, 0.4]), []]
    assert result["mean_ttft_ms"] == pytest.approx(400.0)
    assert result["mean_tpot_ms"] == pytest.approx(250.0)
    assert result["mean_itl_ms"] == pytest.approx(250.0)
    assert result["mean_e2el_ms"] == pytest.approx(900.0)
    assert result["max_output_tokens_per_s"] == 3.0
    assert result["max_concurrent_requests"] == 2
    assert result["errors"] == ["", "ttft_infeasible"]
    assert result["slo_attainment_by_metric"] == {"ttft": 0.5, "tpot": 0.0, "e2el": 0.5}
    assert result["goodput_slos_ms"] == {"ttft": 500.0, "tpot": 50.0}
