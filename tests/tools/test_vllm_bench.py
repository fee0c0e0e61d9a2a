"""Does vLLM's own serve benchmark run against us, and do we read the file that it really writes?"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.ledger.entry import Entry
from scorpio.ledger.files import read_ledger
from scorpio.models.resolve import resolve_model
from scorpio.twin.fidelity.logs import read_log
from scorpio.twin.fidelity.scrapes import read_scrapes, stretches
from tests.engine_server import ENGINE_MARKS, EngineServer
from workloads.errors import WorkloadError

pytestmark = ENGINE_MARKS
SERVED, REFUSED = 16, 4
_BENCH_S = 300.0  # only ends a test that has failed


@dataclass(frozen=True, slots=True)
class Benched:
    """Two runs: one that is served, and one whose SLO not even an idle engine could keep. scrapes:
    of `/metrics`, before and after."""

    served: Path
    refused: Path
    ledger: tuple[Entry, ...]
    scrapes: tuple[Path, Path]


def _run(server: EngineServer, name: str, count: int, ttft_ms: int, *more: str) -> list[str]:
    slo = json.dumps({"vllm_xargs": {"slo_ttft_ms": ttft_ms, "slo_tpot_ms": 60_000}})
    return [
        *("--base-url", server.url, "--model", "tiny", "--tokenizer", str(resolve_model("tiny"))),
        *("--dataset-name", "random", "--random-input-len", "60", "--random-output-len", "16"),
        *("--random-range-ratio", "0.5", "--request-rate", "20", "--num-prompts", str(count)),
        *("--extra-body", slo, "--goodput", f"ttft:{ttft_ms}", "tpot:60000", "--disable-tqdm"),
        *("--request-id-prefix", f"{name}-", "--ignore-eos", *more),
        *("--save-result", "--save-detailed", "--result-filename", f"{name}.json"),
    ]


@pytest.fixture(scope="module")
def benched(engine_server: EngineServer, tmp_path_factory: pytest.TempPathFactory) -> Benched:
    engine_server.switch("scorpio-paper")
    folder = tmp_path_factory.mktemp("bench")
    runs = [
        _run(engine_server, "ab12", SERVED, 60_000),
        _run(engine_server, "cd34", REFUSED, 1),
    ]
    (folder / "runs.json").write_text(json.dumps(runs))
    scrapes = folder / "before.prom", folder / "after.prom"
    scrapes[0].write_bytes(engine_server.call("GET", "/metrics")[2])
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.bench_runs", folder / "runs.json", folder],
        capture_output=True, text=True, timeout=_BENCH_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]

    def entries() -> tuple[Entry, ...]:
        found = read_ledger(engine_server.run_dir).entries
        return tuple(e for e in found if e.id.startswith(("cmpl-ab12-", "cmpl-cd34-")))

    engine_server.wait_for(lambda: len(entries()) >= SERVED + REFUSED, "the ledger's lines")
    scrapes[1].write_bytes(engine_server.call("GET", "/metrics")[2])
    return Benched(folder / "ab12.json", folder / "cd34.json", entries(), scrapes)


def _told(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_it_counts_what_was_served_and_refused(benched: Benched) -> None:
    served, refused = _told(benched.served), _told(benched.refused)
    assert (served["completed"], served["failed"]) == (SERVED, 0)
    assert served["request_goodput"] == pytest.approx(served["request_throughput"])
    assert (refused["completed"], refused["failed"]) == (0, REFUSED)
    assert refused["errors"] == ["Too Many Requests"] * REFUSED
    outcomes = [(e.id[5:9], e.outcome, e.reason) for e in benched.ledger]
    assert outcomes.count(("ab12", "finished", "")) == SERVED
    assert outcomes.count(("cd34", "rejected", "ttft_infeasible")) == REFUSED


def test_our_numbers_from_its_file_are_its_own(benched: Benched) -> None:
    told, real = _told(benched.served), read_log(benched.served).real
    assert len(real) == SERVED
    for name in ("ttft", "tpot"):
        ours = [value for r in real if (value := getattr(r, f"{name}_s")) is not None]
        assert 1e3 * sum(ours) / len(ours) == pytest.approx(told[f"mean_{name}_ms"], rel=1e-3)
    assert sum(r.output_tokens for r in real) == told["total_output_tokens"]
    assert sum(r.prompt_tokens for r in real) == told["total_input_tokens"]
    with pytest.raises(WorkloadError, match=f"holds no requests \\({REFUSED} failed ones dropped"):
        read_log(benched.refused)


def test_the_ledger_tells_of_the_same_requests(benched: Benched) -> None:
    """Each first token was at the engine before it was at the client."""
    told = _told(benched.served)
    by_number = {int(e.id.split("-")[2]): e for e in benched.ledger if e.outcome == "finished"}
    for number in range(SERVED):
        entry = by_number[number]
        assert entry.prompt_tokens == told["input_lens"][number]
        assert entry.output_tokens == told["output_lens"][number]
        assert entry.first_token_ms is not None
        assert entry.first_token_ms < told["ttfts"][number] * 1e3 + 1.0  # two clocks
        assert (entry.slo_ttft_ms, entry.slo_tpot_ms) == (60_000.0, 60_000.0)


def test_a_gpu_model_is_calibrated_to_it(benched: Benched, tmp_path: Path) -> None:
    command = ["calibrate", str(benched.served), "--out", str(tmp_path / "gpu.json")]
    done = CliRunner().invoke(app, [*command, "--base", "a100-llama-3.1-8b", "--free", "gap"])
    assert done.exit_code == 0, done.output
    assert "ttft mean ms" in done.output
    assert (tmp_path / "gpu.json").is_file()


def test_another_is_calibrated_to_what_the_server_counted(benched: Benched, tmp_path: Path) -> None:
    """Two real scrapes: all that the benchmark received is counted (it also tries one request)."""
    before, after = map(str, benched.scrapes)
    command = ["calibrate", before, after, "--out", str(tmp_path / "gpu.json")]
    done = CliRunner().invoke(app, [*command, "--base", "a100-llama-3.1-8b"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "gpu.json").is_file()
    (stretch,) = stretches(read_scrapes(benched.scrapes), 2048)
    told = _told(benched.served)
    tried = max(told["output_lens"])
    assert stretch.gaps >= sum(told["output_lens"]) - SERVED
    assert stretch.gaps <= sum(told["output_lens"]) - SERVED + 2 * tried
