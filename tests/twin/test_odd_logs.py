"""Logs that no engine under load writes: they are fitted, or refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.fidelity import calibrate
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.fidelity.first_look import first_look
from scorpio.twin.fidelity.log_report import built_in, fit_log
from scorpio.twin.fidelity.logs import read_log
from scorpio.twin.fidelity.replay import replay_log, replay_steps
from scorpio.twin.fidelity.side_by_side import fidelity
from scorpio.twin.gpu.scaling import Factors, scaled
from scorpio.twin.gpu.step_models import BUILT_IN
from workloads.errors import WorkloadError

A100 = BUILT_IN["a100-llama-3.1-8b"]
Row = dict[str, Any]


def row(at_s: float, tokens: int = 20, ttft_s: float = 0.1, rest_s: float = 0.4) -> Row:
    """A line of a log."""
    return {
        "input_toks": 100, "output_toks": tokens, "arrival_time": at_s, "queued_ts": at_s,
        "first_token_ts": at_s + ttft_s, "last_token_ts": at_s + ttft_s + rest_s,
    }  # fmt: skip


def log_of(folder: Path, rows: list[Row], meta: object = None) -> EngineLog:
    """As it is read."""
    (folder / "odd_requests.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "odd_meta.json").write_text(json.dumps(meta or {}))
    return read_log(folder / "odd_requests.jsonl")


def test_a_first_token_at_once_is_a_time_like_another(tmp_path: Path) -> None:
    log = log_of(tmp_path, [row(0.0, ttft_s=0.0), *(row(0.5 * i) for i in range(1, 9))])
    looked = first_look(log, A100, 9, 2048)
    assert np.isfinite(looked.rest_s).all()
    assert looked.rest_s == pytest.approx([looked.rest_s[0]] * 9, rel=0.1)  # none meets another


@pytest.mark.parametrize("odd", [{"tokens": 1, "rest_s": 0.0}, {"rest_s": 0.0}])
def test_without_a_time_between_tokens_nothing_is_fitted(tmp_path: Path, odd: Row) -> None:
    log = log_of(tmp_path, [*(row(float(i), **odd) for i in range(4)), row(9.0)])
    with pytest.raises(WorkloadError, match="none of its first 2 requests has a time between"):
        fit_log(log, [A100], "auto", 0.4)
    assert fit_log(log, [A100], "auto", 1.0)[0].fitted_requests == 5


def test_a_time_of_zero_has_no_relative_error(tmp_path: Path) -> None:
    log = log_of(tmp_path, [row(float(i), tokens=1, ttft_s=0.0, rest_s=0.0) for i in range(3)])
    rows = fidelity(log.real, log.real)
    assert [r.metric for r in rows if r.around is None] == []
    assert [r.error for r in rows] == [0.0] * 6


def test_a_pause_of_fifty_years_takes_no_time(tmp_path: Path) -> None:
    log = log_of(tmp_path, [row(1.0), row(2.0), *(row(1.7e9 + i) for i in range(3))])
    seen = replay_steps(log, A100, EngineSpec(), 5, 200_000.0)
    assert np.isfinite(seen.rest_s).all()
    assert seen.rest_s[4] == pytest.approx(seen.rest_s[0], rel=1e-3)


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"max_model_len": 119}, "a request of 120 tokens, and its engine would have refused it"),
        ({"num_gpu_blocks": 8}, "a KV pool of 8 blocks"),
        ({"max_num_seqs": 512, "max_num_batched_tokens": 256}, "vLLM does not start so"),
        ({"num_gpu_blocks": 1_000_000_000}, "at most 10,000,000"),
    ],
)
def test_limits_that_cannot_be(tmp_path: Path, meta: object, reason: str) -> None:
    with pytest.raises(WorkloadError, match=reason):
        fit_log(log_of(tmp_path, [row(0.0), row(1.0)], meta), [A100], "gap", 1.0)


def test_limits_that_are_just_enough(tmp_path: Path) -> None:
    meta = {"max_model_len": 120, "num_gpu_blocks": 9}
    _, engine = fit_log(log_of(tmp_path, [row(0.0), row(1.0)], meta), [A100], "gap", 1.0)
    assert (engine.max_model_len, engine.num_blocks) == (120, 9)


def test_a_limit_that_is_not_stated_fits_the_one_that_is(tmp_path: Path) -> None:
    few = log_of(tmp_path, [row(0.0)], {"max_num_batched_tokens": 128}).spec(EngineSpec())
    assert (few.max_num_seqs, few.max_num_batched_tokens) == (128, 128)
    many = log_of(tmp_path, [row(0.0)], {"max_num_seqs": 4096}).spec(EngineSpec())
    assert (many.max_num_seqs, many.max_num_batched_tokens) == (4096, 4096)


def test_of_two_places_the_first_counts(tmp_path: Path) -> None:
    meta = {
        "max_num_seqs": 8,
        "engine_kwargs": {"max_num_seqs": 9, "block_size": 32},
        "cache_config": {"max_num_seqs": 10, "block_size": 64, "num_gpu_blocks": 50},
    }
    log = log_of(tmp_path, [row(0.0)], meta)
    assert log.limits == {"max_num_seqs": 8, "num_blocks": 100}


def long_answers(folder: Path) -> EngineLog:
    """Of a GPU that is slower than the A100 by 1.8."""
    log = log_of(folder, [row(0.1 * i, tokens=300 + 10 * i) for i in range(60)])
    slow = scaled(A100, Factors(1.8, 1.8, 1.8, 1.8)).with_gap(1.8 * A100.gap_s)
    return replace(log, real=replay_log(log, slow, EngineSpec()))


def test_a_replay_goes_on_until_some_answers_have_ended(tmp_path: Path) -> None:
    log = long_answers(tmp_path)
    for most_cost, least, most in ((5_000.0, 20, 40), (100.0, 0, 0), (1e9, 60, 60)):
        seen = replay_steps(log, A100, EngineSpec(), 60, most_cost)
        assert least <= np.isfinite(seen.rest_s).sum() <= most


def test_where_none_ends_the_look_at_all_of_them_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_MOST_COST", 100.0)
    found, _ = fit_log(long_answers(tmp_path), [A100], "auto", 1.0)
    assert found.factors.fixed == pytest.approx(1.8, rel=0.1)


def test_a_model_that_was_fitted_to_a_log_is_chosen_by_name_only() -> None:
    assert {model.name for model in built_in(None)} == set(BUILT_IN) - {"24gb-llama-3.1-8b"}
    assert built_in("24gb-llama-3.1-8b") == [BUILT_IN["24gb-llama-3.1-8b"]]
