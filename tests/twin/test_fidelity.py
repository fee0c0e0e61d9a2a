"""Against logs: one of the twin's own making with known truth, and a real engine's."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.cli.fidelity import print_fidelity
from scorpio.engine.virtual.build import EngineSpec
from scorpio.twin.fidelity import log_report
from scorpio.twin.fidelity.calibrate import calibrate
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.fidelity.log_report import built_in, calibrate_log, fit_log, log_fidelity
from scorpio.twin.fidelity.logs import read_log
from scorpio.twin.fidelity.replay import replay_log
from scorpio.twin.fidelity.side_by_side import LogCase, fidelity
from scorpio.twin.gpu.file import gpu_model, stated_limits
from scorpio.twin.gpu.scaling import Factors, scaled
from scorpio.twin.gpu.step_models import BUILT_IN, GpuModel
from tests.shared_data import shared_data
from workloads.errors import WorkloadError
from workloads.results.records import Outcome, RequestRecord

A100 = BUILT_IN["a100-llama-3.1-8b"]
SPEC = EngineSpec(max_num_seqs=32, num_blocks=4000)
LogOf = Callable[[GpuModel], EngineLog]
CLOCK_S = 1_000_000.0  # the engine's monotonic clock is not the wall clock


def _line(index: int, at_s: float, prompt: int, output: int, first_s: float, last_s: float) -> str:
    row = {
        "request_id": f"x{index}", "input_toks": prompt, "output_toks": output,
        "arrival_time": 1.7e9 + at_s, "queued_ts": CLOCK_S + at_s, "scheduled_ts": CLOCK_S + at_s,
        "first_token_ts": CLOCK_S + first_s, "last_token_ts": CLOCK_S + last_s,
    }  # fmt: skip
    return json.dumps(row)


@pytest.fixture
def log_of(tmp_path: Path) -> LogOf:
    """A log as the twin's own engine on some GPU would have written it."""

    def make(gpu: GpuModel) -> EngineLog:
        draw = random.Random(3)
        file, at_s, rows = tmp_path / "own_requests.jsonl", 0.0, []
        for index in range(36):
            rows.append((index, at_s, draw.randint(50, 1500), draw.randint(20, 70)))
            at_s += draw.expovariate(8.0)
        flags = {"engine_kwargs": {"max_num_seqs": 32, "max_num_batched_tokens": 1024}}
        (tmp_path / "own_meta.json").write_text(json.dumps(flags))
        # Any times will do to read the arrivals; then the twin supplies the real ones.
        file.write_text("\n".join(_line(*row, row[1] + 1, row[1] + 2) for row in rows))
        served = replay_log(read_log(file), gpu, SPEC)
        times = [(r.first_token_s or 0.0, r.last_token_s or 0.0) for r in served]
        file.write_text("\n".join(_line(*a, *b) for a, b in zip(rows, times, strict=True)))
        return read_log(file)

    return make


def test_log_is_read_with_its_flags(log_of: LogOf) -> None:
    log = log_of(A100)
    assert log.name == "own"
    assert log.spec(EngineSpec()).max_num_batched_tokens == 1024
    assert log.requests[0].send_s == 0.0
    again = replay_log(log, A100, SPEC)
    for row in fidelity(log.real, again):
        assert row.error == pytest.approx(0.0, abs=2e-3)  # two clocks in floating point


def test_gap_is_found_again(log_of: LogOf) -> None:
    found = calibrate(log_of(A100.with_gap(0.004)), SPEC, [A100], "gap", 0.5)
    assert found.gpu.gap_s == pytest.approx(0.004, abs=1.5e-4)
    assert (found.base, found.free, found.fitted_requests) == (A100.name, "gap", 18)


def test_speed_of_another_gpu_is_found_from_a_built_in(log_of: LogOf) -> None:
    truth = scaled(A100, Factors(1.6, 1.2, 0.8, 1.6))
    log = log_of(truth)
    found = calibrate(log, SPEC, [A100], "speed", 1.0)
    assert found.factors.prefill == pytest.approx(0.8, rel=0.1)
    for row in fidelity(log.real, replay_log(log, found.gpu, SPEC)):
        assert abs(row.error) <= 0.03, row


def test_calibrate_writes_a_file_that_compare_takes(log_of: LogOf, tmp_path: Path) -> None:
    log_of(A100.with_gap(0.004))
    file, out = tmp_path / "own_requests.jsonl", tmp_path / "gpu.json"
    found, (case,) = calibrate_log(read_log(file), out, [A100], "gap", 0.5, 5000)
    assert all(abs(row.error) <= 0.03 for row in case.rows if row.around is None)
    assert case.title == f"gap {found.gpu.gap_s * 1e3:.2f} ms fitted on 1-18, tested on 19-36"
    kept = gpu_model(str(out))
    assert kept.step.base_s == pytest.approx(A100.step.base_s + found.gpu.gap_s)
    assert kept.kv_blocks == 5000
    engine = stated_limits(str(out), EngineSpec())
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (32, 1024)
    again = replay_log(read_log(file), kept, SPEC)
    assert [r.outcome for r in again] == [Outcome.FINISHED] * 36
    assert json.loads(out.read_text())["fit"]["free"] == "gap"


def test_fidelity_knows_the_limits_that_the_file_of_the_gpu_states(
    log_of: LogOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a log without a meta file; what a log itself states goes before."""
    log_of(A100)
    file, out, seen = tmp_path / "own_requests.jsonl", tmp_path / "gpu.json", []
    calibrate_log(read_log(file), out, [A100], "gap", 0.5, 5000)
    bare = tmp_path / "bare_requests.jsonl"
    bare.write_text(file.read_text())

    def noted(log: EngineLog, *_: object) -> list[LogCase]:
        seen.append(log.limits)
        return []

    monkeypatch.setattr(log_report, "log_fidelity", noted)
    for gpu, limits in ((str(out), {"max_num_seqs": 32, "max_num_batched_tokens": 1024}),
                        (A100.name, {})):  # fmt: skip
        print_fidelity(bare, gpu, 0.5, None)
        assert seen.pop() == limits
    (tmp_path / "bare_meta.json").write_text(json.dumps({"max_num_seqs": 8}))
    print_fidelity(bare, str(out), 0.5, None)
    assert seen == [{"max_num_seqs": 8, "max_num_batched_tokens": 1024}]


def test_published_gaps_stand_beside_the_fitted_one(log_of: LogOf, tmp_path: Path) -> None:
    log_of(A100.with_gap(0.002))
    fitted, low, exact = log_fidelity(read_log(tmp_path / "own_requests.jsonl"), A100, 1.0)
    assert fitted.title.endswith("fitted on all 36, no examination")
    assert low.title == "published gap 1.5 ms, all 36"
    assert exact.worst < 0.01 < low.worst


def test_calibrate_on_the_command_line(log_of: LogOf, tmp_path: Path) -> None:
    log_of(A100)
    out = tmp_path / "gpu.json"
    words = ["calibrate", str(tmp_path / "own_requests.jsonl"), "--out", str(out)]
    for more, reason in (
        (["--base", "nope"], "unknown base 'nope'; valid: 24gb"),
        (["--free", "nope"], "unknown --free 'nope'; valid: auto, gap, speed"),
        (["--fitted-share", "0"], "--fitted-share must be in (0, 1], got 0"),
        (["--kv-blocks", "1"], "--kv-blocks must be >= 2, got 1"),
    ):
        result = CliRunner().invoke(app, [*words, *more])
        assert (result.exit_code, out.exists()) == (2, False)
        assert reason in result.stderr
    result = CliRunner().invoke(app, [*words, "--base", A100.name], catch_exceptions=False)
    assert result.exit_code == 0
    assert "fitted on 1-12, tested on 13-36" in result.stdout
    assert f"wrote {out}" in result.stdout


@pytest.mark.parametrize(("share", "bases"), [(0.0, [A100]), (1.5, [A100]), (0.5, [])])
def test_nonsense_is_refused(share: float, bases: list[GpuModel]) -> None:
    log = EngineLog("x", [], [], {})
    with pytest.raises(ValueError, match="fitted_share"):
        calibrate(log, SPEC, bases, "gap", share)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no requests"),
        ("{", "line 1"),
        ("[]", "line 1: not a JSON object"),
        (_line(0, 0.0, 5, 5, 1.0, 2.0) + "\n" + _line(1, 0.0, 0, 5, 1.0, 2.0), "line 2: input_to"),
        (_line(0, 0.0, 5, 5, 3.0, 2.0), "first_token_ts <= last_token_ts"),
        (_line(0, 0.0, 5, 5, 1.0, 2.0).replace("queued_ts", "queue"), "queued_ts is missing"),
        (_line(0, 1.7e12, 5, 5, 1.0, 2.0), "arrival_time must be seconds >= 0"),
        (_line(0, -1.8e9, 5, 5, 1.0, 2.0), "arrival_time must be seconds >= 0"),
        (_line(0, math.nan, 5, 5, 1.0, 2.0), "arrival_time must be seconds >= 0"),
        (_line(0, 0.0, 5, 5, 1.0, 2.0).replace(": 5,", ": 5.5,", 1), "whole number of tokens"),
        (_line(0, 0.0, 5, 0, 1.0, 2.0), "holds no requests (1 failed ones dropped)"),
        ("[" * 100_000, "line 1"),
    ],
)
def test_malformed_log_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(text)
    with pytest.raises(WorkloadError, match=r"log\.jsonl") as caught:
        read_log(file)
    assert message in str(caught.value)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_log_may_be_packed_and_hold_failed_requests(
    tmp_path: Path, start: bytes, pack: Callable[[bytes], bytes]
) -> None:
    lines = (_line(0, 0.0, 5, 4, 1.0, 2.0), _line(1, 0.5, 5, 0, 1.0, 2.0))
    file = tmp_path / "own_requests.jsonl"
    file.write_bytes(pack(start + "\n".join(lines).encode()))
    meta = {"engine_kwargs": {"max_num_seqs": None, "max_num_batched_tokens": 512}}
    (tmp_path / "own_meta.json").write_bytes(pack(start + json.dumps(meta).encode()))
    log = read_log(file)
    assert (len(log.requests), log.dropped) == (1, 1)
    assert log.spec(EngineSpec()).max_num_batched_tokens == 512
    assert log.spec(EngineSpec()).max_num_seqs == EngineSpec().max_num_seqs


def test_fidelity_compares_the_same_requests() -> None:
    def one(index: int, first_s: float, last_s: float) -> RequestRecord:
        return RequestRecord(
            index=index, slo_class="", send_s=0.0, scheduled_send_s=0.0, prompt_tokens=5,
            output_tokens=11, outcome=Outcome.FINISHED, first_token_s=first_s, last_token_s=last_s,
        )  # fmt: skip

    real, twin = [one(0, 1.0, 2.0), one(1, 3.0, 5.0)], [one(0, 1.1, 2.0), one(1, 3.1, 5.0)]
    rows = {row.metric: row for row in fidelity(real, twin, [(3.02, 500.0)])}
    assert rows["ttft mean ms"].real == pytest.approx(2000.0)
    assert rows["ttft mean ms"].error == pytest.approx(0.05)
    assert rows["tpot mean ms"].twin == pytest.approx((90.0 + 190.0) / 2)
    assert rows["attained 3.02 s / 500 ms"].error == pytest.approx(-0.5)
    assert rows["attained 3.02 s / 500 ms"].around == (0.5, 1.0)
    with pytest.raises(ValueError, match="different requests"):
        fidelity(real, twin[:1])


@pytest.mark.parametrize("name", ["vllm_rtxpro6000_llama31_8b", "vllm_rtxpro6000x2_qwen3_32b"])
def test_real_engine_log_fitted_on_its_first_third(name: str) -> None:
    """Issue: the other two thirds within 3 % on means, 5 % on p90 and p99, 3 points attained."""
    log = read_log(shared_data(f"latency/{name}_requests.jsonl"))
    found, spec = fit_log(log, built_in(None), "auto", 1 / 3)
    twin = replay_log(log, found.gpu, spec)
    for row in fidelity(log.real[100:], twin[100:]):
        goal = 0.05 if "p9" in row.metric else 0.03
        assert abs(row.error) <= goal, row
