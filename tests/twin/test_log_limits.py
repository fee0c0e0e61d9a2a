"""The limits of a log's engine: as its meta file states them, or as the log itself shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.core.latency import StepModel
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.fidelity.engine_log import EngineLog, Served, log_of
from scorpio.twin.fidelity.first_look import first_look
from scorpio.twin.fidelity.log_meta import read_meta
from scorpio.twin.fidelity.log_report import fit_log
from scorpio.twin.fidelity.logs import read_log
from scorpio.twin.fidelity.replay import replay_log, replay_steps
from scorpio.twin.fidelity.seen_limits import seen_limits
from scorpio.twin.fidelity.side_by_side import crowd_pairs
from scorpio.twin.gpu.step_models import BUILT_IN, GpuModel
from workloads.errors import WorkloadError
from workloads.request import WorkloadRequest

A100 = BUILT_IN["a100-llama-3.1-8b"]
LINE = {
    "input_toks": 5, "output_toks": 5, "arrival_time": 1.0, "queued_ts": 2.0,
    "first_token_ts": 3.0, "last_token_ts": 4.0,
}  # fmt: skip


def written(folder: Path, meta: object, name: str = "x_meta.json") -> Path:
    """A log of one request with a meta file; its path."""
    (folder / "x_requests.jsonl").write_text(json.dumps(LINE))
    (folder / name).write_text(meta if isinstance(meta, str) else json.dumps(meta))
    return folder / "x_requests.jsonl"


@pytest.mark.parametrize(
    ("meta", "limits"),
    [
        ({}, {}),
        ({"engine_kwargs": None, "cache_config": {}}, {}),
        ({"engine_kwargs": {"max_num_seqs": 8, "max_model_len": None}}, {"max_num_seqs": 8}),
        ({"max_num_batched_tokens": 512}, {"max_num_batched_tokens": 512}),
        ({"num_gpu_blocks": 2588}, {"num_blocks": 2588}),
        ({"cache_config": {"num_gpu_blocks": 100, "block_size": 32}}, {"num_blocks": 200}),
        ({"engine_kwargs": {"num_gpu_blocks_override": 70}}, {"num_blocks": 70}),
        ({"kv_cache_tokens": 41_408}, {"num_blocks": 2588}),
    ],
)
def test_stated_limits_are_read(
    tmp_path: Path, meta: dict[str, object], limits: dict[str, int]
) -> None:
    log = read_log(written(tmp_path, {"model": "some/model", **meta}))
    assert (log.limits, log.model, log.kv_blocks) == (
        limits, "some/model", limits.get("num_blocks"),
    )  # fmt: skip
    assert log.spec(EngineSpec()).max_num_seqs == limits.get("max_num_seqs", 256)
    assert log.spec(EngineSpec(num_blocks=9)).num_blocks == 9  # the pool is the caller's


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ([], "must be a JSON object, got []"),
        ({"engine_kwargs": 3}, "engine_kwargs must be a JSON object, got 3"),
        ({"engine_kwargs": {"max_num_seqs": True}}, "engine_kwargs.max_num_seqs must be a whole"),
        ({"max_num_batched_tokens": 0}, "max_num_batched_tokens must be a whole number >= 1"),
        ({"cache_config": {"num_gpu_blocks": "2588"}}, "cache_config.num_gpu_blocks must be a"),
        ({"num_gpu_blocks": 1}, "a KV pool of 16 tokens: need two blocks"),
    ],
)
def test_malformed_meta_names_file_and_field(tmp_path: Path, meta: object, reason: str) -> None:
    path = written(tmp_path, meta)
    with pytest.raises(WorkloadError, match=r"x_meta\.json") as caught:
        read_log(path)
    assert reason in str(caught.value)


def test_a_meta_file_of_another_name(tmp_path: Path) -> None:
    path = written(tmp_path, {"num_gpu_blocks": 77}, "other.json")
    assert read_log(path).kv_blocks is None
    assert read_log(path, tmp_path / "other.json").kv_blocks == 77
    out = tmp_path / "gpu.json"
    words = ["calibrate", str(path), "--out", str(out), "--base", A100.name]
    told = CliRunner().invoke(app, [*words, "--meta", str(tmp_path / "other.json")])
    assert told.exit_code == 0, told.stderr
    assert json.loads(out.read_text())["engine"]["num_gpu_blocks"] == 77
    refused = CliRunner().invoke(app, [*words, "--meta", str(tmp_path / "none.json")])
    assert refused.exit_code == 2
    assert "none.json" in refused.stderr
    assert read_meta(None) == ({}, "")


def served_by(spec: EngineSpec, gpu: GpuModel = A100, count: int = 120) -> EngineLog:
    """What the twin's own engine did with a load that is too much for it."""
    draw = np.random.default_rng(4)
    sent_s = np.cumsum(draw.exponential(0.05, count))
    requests = [
        WorkloadRequest(
            i, float(at_s), int(draw.integers(100, 900)), int(draw.integers(60, 300)), (), "",
            math.inf, math.inf,
        )
        for i, at_s in enumerate(sent_s)
    ]  # fmt: skip
    log = EngineLog("own", requests, [], {})
    return replace(log, real=replay_log(log, gpu, spec))


@pytest.mark.parametrize(
    ("limits", "pool", "seqs"),
    [
        ({"num_blocks": 700}, 700, None),
        ({"max_num_seqs": 20}, None, 20),
        ({}, None, None),
    ],
)
def test_what_is_full_stands_still(
    limits: Mapping[str, int], pool: int | None, seqs: int | None
) -> None:
    log = served_by(EngineSpec(**limits))  # type: ignore[arg-type]
    seen = seen_limits(log, 60)
    assert seen.max_num_seqs == seqs
    assert seen.kv_blocks == (pool if pool is None else pytest.approx(pool, rel=0.05))
    _, engine = fit_log(log, [A100], "gap", 0.5)
    assert engine.num_blocks == (seen.kv_blocks or A100.kv_blocks)
    assert engine.max_num_seqs == (seqs or EngineSpec().max_num_seqs)
    _, stated = fit_log(replace(log, limits={"num_blocks": 900}), [A100], "gap", 0.5)
    assert stated.num_blocks == 900


@pytest.mark.parametrize(
    ("clients", "ttft_s", "tpot_s"), [(16, 0.2, 0.02), (64, 0.5, 0.03), (256, 1.0, 0.05)]
)
def test_how_many_clients_there_were_is_no_limit_of_the_engine(
    clients: int, ttft_s: float, tpot_s: float
) -> None:
    """A benchmark with `--max-concurrency`: each sends when its last answer has come."""
    draw, served = np.random.default_rng(1), []
    for _ in range(clients):
        sent_s = float(draw.uniform(0.0, 2.0))
        for prompt, output in draw.integers((100, 60), (900, 300), (12, 2)):
            first_s = sent_s + ttft_s * float(draw.uniform(0.5, 1.5))
            served.append(
                Served(sent_s, int(prompt), int(output), first_s, first_s + float(output * tpot_s))
            )
            sent_s = served[-1].last_s + 0.001
    seen = seen_limits(log_of(Path("own"), served, 0), len(served) // 3)
    assert (seen.max_num_seqs, seen.kv_blocks) == (None, None)


def test_a_replay_knows_what_its_times_are_made_of() -> None:
    log = served_by(EngineSpec(max_num_seqs=20))
    spec = EngineSpec(max_num_seqs=20)
    seen = replay_steps(log, A100, spec, 60, math.inf)
    rest_s = [(r.last_token_s or 0.0) - (r.first_token_s or 0.0) for r in log.real[:60]]
    assert seen.ttft_s == pytest.approx([r.ttft_s for r in log.real[:60]])
    assert seen.rest_s == pytest.approx(rest_s)
    assert seen.to_last.sum(axis=1) == pytest.approx(rest_s)  # the engine never rests
    assert seen.to_first.sum(axis=1)[20:] == pytest.approx(seen.ttft_s[20:], rel=0.01)
    short = replay_steps(log, A100, spec, 60, 20_000.0)
    assert 0 < np.isfinite(short.rest_s).sum() < 60
    assert np.isfinite(short.ttft_s).sum() > np.isfinite(short.rest_s).sum()


def test_a_first_look_is_near_without_a_replay() -> None:
    """Of the true model, at the log of that model: within a few percent, request by request."""
    log = served_by(EngineSpec(max_num_seqs=20))
    looked = first_look(log, A100, 60, 2048)
    real = np.array([(r.last_token_s or 0.0) - (r.first_token_s or 0.0) for r in log.real[:60]])
    assert np.abs(np.log(looked.rest_s / real)).mean() < 0.05
    assert np.isnan(looked.ttft_s).all()


def test_another_gpu_and_little_memory_are_found_together() -> None:
    """A GPU that no built-in model is like, whose requests are preempted all the time."""
    gpu = replace(A100, step=StepModel(0.022, 5e-5, 9e-5, 384, 1e-9, 1e-9, 4e-8), gap_s=0.0)
    spec = EngineSpec(num_blocks=1000)
    log = served_by(spec, gpu)
    assert sum(r.preemptions for r in log.real) > 10
    found, _ = fit_log(
        replace(log, limits={"num_blocks": 1000}), list(BUILT_IN.values()), "auto", 0.5
    )
    twin = replay_log(log, found.gpu, spec)
    for name in ("ttft_s", "tpot_s"):
        means = [np.mean([getattr(r, name) for r in rows[60:]]) for rows in (log.real, twin)]
        assert means[1] == pytest.approx(means[0], rel=0.03)


def test_slos_amid_the_crowd() -> None:
    log = served_by(EngineSpec(max_num_seqs=20))
    (most_s, half_ms), (_, nine_ms) = crowd_pairs(log.real)
    ttft, tpot = ([getattr(r, n) or 0.0 for r in log.real] for n in ("ttft_s", "tpot_s"))
    assert most_s == pytest.approx(np.percentile(ttft, 90), rel=0.01)
    assert half_ms == pytest.approx(np.percentile(tpot, 50) * 1e3, rel=0.01)
    assert nine_ms == pytest.approx(np.percentile(tpot, 90) * 1e3, rel=0.01)
    assert crowd_pairs([]) == []
