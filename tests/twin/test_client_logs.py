"""What clients saw, as a log: vLLM's benchmark and our own records, with known truth."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.fidelity.calibrate import calibrate
from scorpio.twin.fidelity.logs import read_log
from scorpio.twin.gpu.noise import NO_NOISE
from scorpio.twin.gpu.step_models import BUILT_IN
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.run import run_twin
from tests.twin.driving import promised
from workloads.errors import WorkloadError
from workloads.results.record_files import write_records
from workloads.results.records import RequestRecord

A100 = BUILT_IN["a100-llama-3.1-8b"]
SPEC = EngineSpec(max_num_seqs=32, num_blocks=4000)


@pytest.fixture(scope="module")
def truth() -> list[RequestRecord]:
    """Served by an A100 with a gap of 4 ms."""
    draw, at_s, load = random.Random(3), 0.0, []
    for index in range(36):
        load.append(promised(index, at_s, draw.randint(50, 1500), draw.randint(20, 70)))
        at_s += draw.expovariate(8.0)
    config = TwinConfig(A100.with_gap(0.004), SPEC, NO_NOISE, LengthHint(None))
    return run_twin(config, load, "fcfs").records


def bench(records: list[RequestRecord], start_s: float = 5000.0) -> dict[str, Any]:
    """The fields that vllm/benchmarks/serve.py writes; gaps between tokens are even here."""
    rest_s = [(r.last_token_s or 0.0) - (r.first_token_s or 0.0) for r in records]
    return {
        "model_id": "meta/llama", "duration": 9.0, "completed": len(records),
        "request_throughput": 4.0,
        "input_lens": [r.prompt_tokens for r in records],
        "output_lens": [r.output_tokens for r in records],
        "ttfts": [r.ttft_s for r in records],
        "itls": [
            [s / (r.output_tokens - 1)] * (r.output_tokens - 1)
            for s, r in zip(rest_s, records, strict=True)
        ],
        "latencies": [r.e2e_s for r in records],
        "start_times": [start_s + r.send_s for r in records],
        "errors": [""] * len(records),
        "mean_ttft_ms": 1e3 * sum(r.ttft_s or 0.0 for r in records) / len(records),
    }  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("gaps", [True, False])
def test_a_benchmark_is_read_and_its_gap_found_again(
    tmp_path: Path, truth: list[RequestRecord], indent: int | None, gaps: bool
) -> None:
    path, result = tmp_path / "b.json", bench(truth)
    if not gaps:
        result["itls"] = [[] for _ in truth]
    path.write_text(json.dumps(result, indent=indent))
    log = read_log(path)
    assert (log.model, log.dropped, len(log.real)) == ("meta/llama", 0, 36)
    for mine, real in zip(log.real, truth, strict=True):
        assert mine.ttft_s == pytest.approx(real.ttft_s)
        assert mine.tpot_s == pytest.approx(real.tpot_s)
    if gaps and indent is None:
        seen: list[tuple[int, int, str]] = []
        found = calibrate(log, SPEC, [A100], "gap", 1.0, lambda *told: seen.append(told))
        assert found.gpu.gap_s == pytest.approx(0.004, abs=1.5e-4)
        assert [done for done, _, _ in seen] == list(range(1, len(seen) + 1))
        assert {total for _, total, _ in seen} == {8}
        assert seen[-1][2].startswith(f"{A100.name}, error ")


def test_requests_that_failed_are_dropped(tmp_path: Path, truth: list[RequestRecord]) -> None:
    path, result = tmp_path / "b.json", bench(truth)
    result["errors"][0], result["ttfts"][0], result["itls"][0] = "Bad Gateway", 0.0, []
    result["output_lens"][1] = 0
    path.write_text(json.dumps(result))
    log = read_log(path)
    assert (log.dropped, len(log.real)) == (2, 34)
    assert log.requests[0].send_s == 0.0


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda result: result.pop(name)


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda result: result.__setitem__(name, value)


def _at(name: str, row: int, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda result: result[name].__setitem__(row, value)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_without("itls"), "no list itls: save it with `vllm bench serve --save-result"),
        (_without("start_times"), "no list start_times: save it with"),
        (_set("ttfts", [1.0]), "ttfts has 1 values, start_times 36: one per request"),
        (_set("errors", [""]), "errors has 1 values"),
        (_at("ttfts", 3, "x"), "ttfts[3] must be seconds >= 0, got 'x'"),
        (_at("itls", 3, 0.1), "itls[3] must be a list of seconds, got 0.1"),
        (_at("itls", 3, [0.1, -1]), "itls[3][1] must be seconds >= 0, got -1"),
        (_at("input_lens", 3, 1.5), "input_lens[3] must be a whole number of tokens >= 1"),
        (_set("mean_ttft_ms", 0.05), "ttfts must be seconds: their mean is"),
        (_set("output_lens", [0] * 36), "holds no requests (36 failed ones dropped)"),
    ],
)
def test_a_field_that_is_wrong_is_named(
    tmp_path: Path,
    truth: list[RequestRecord],
    spoil: Callable[[dict[str, Any]], Any],
    reason: str,
) -> None:
    result = bench(truth)
    spoil(result)
    path = tmp_path / "b.json"
    path.write_text(json.dumps(result))
    with pytest.raises(WorkloadError) as caught:
        read_log(path)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_no_times_at_all_and_several_results(tmp_path: Path, truth: list[RequestRecord]) -> None:
    path, result = tmp_path / "b.json", bench(truth)
    path.write_text(json.dumps(result) + "\n" + json.dumps(result))
    with pytest.raises(WorkloadError, match="several results"):
        read_log(path)
    del result["latencies"]
    result["itls"][2] = []
    path.write_text(json.dumps(result))
    with pytest.raises(WorkloadError, match=r"itls\[2\] is empty and there are no latencies"):
        read_log(path)


def test_records_are_a_log(tmp_path: Path, truth: list[RequestRecord]) -> None:
    path = tmp_path / "records/own.jsonl"
    write_records(path, truth)
    log = read_log(path)
    for mine, real in zip(log.real, truth, strict=True):
        assert mine.ttft_s == pytest.approx(real.ttft_s)
        assert mine.tpot_s == pytest.approx(real.tpot_s)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(WorkloadError, match="line 37: field 'index' is missing"):
        read_log(path)


def test_records_of_a_comparison_with_its_flags(tmp_path: Path) -> None:
    """Of the twin's own run, so the built-in model is found again; of another policy, refused."""
    out = tmp_path / "out"
    words = ["compare", "--gpu", A100.name, "--policy", "fcfs,scorpio", "--trace", "cpu-demo"]
    words += ["--rows", "0:30", "--workers", "1", "--noise", "none", "--out", str(out)]
    words += ["--engine-option", "max_num_seqs=24"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    ours, stock = sorted((out / "records").iterdir(), key=lambda path: "fcfs" in path.name)
    log = read_log(stock)
    assert log.spec(EngineSpec()).max_num_seqs == 24
    told = CliRunner().invoke(
        app, ["calibrate", str(stock), "--base", A100.name, "--out", str(tmp_path / "gpu.json")]
    )
    assert told.exit_code == 0, told.stderr
    assert f"{A100.name}; free: speed; its steps: x1.0" in told.stdout
    refused = CliRunner().invoke(app, ["calibrate", str(ours), "--base", A100.name])
    assert refused.exit_code == 2
    assert "of a run under scorpio; a log is replayed as stock vLLM serves it" in refused.stderr
    two = CliRunner().invoke(app, ["calibrate", str(stock), str(stock), "--base", A100.name])
    assert (two.exit_code, "one log at a time" in two.stderr) == (2, True)
