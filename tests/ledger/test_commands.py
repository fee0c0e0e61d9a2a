"""Do `scorpio explain` and `scorpio record` do what they say, on a ledger of the real scheduler?"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.slo import XARG_ON_MISS
from scorpio.engine.virtual.build import EngineSpec
from scorpio.ledger.as_trace import recorded
from scorpio.ledger.files import read_ledger
from tests.engine.driver import Engine
from tests.ledger.made import entry, refused, write
from workloads.named import load_workload
from workloads.traces.trace import read_trace

STEP = StepModel(0.01, 1e-4, 1e-4, 64.0, 0.0, 0.0, 0.0)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "tests")
SLOS: tuple[dict[str, Any], ...] = (
    {"slo_class": "chat"},
    {"slo_ttft_ms": 300, "slo_on_miss": "degrade"},
    {},
)


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run_dir of an engine that was asked for too much, 120 requests, a third with a common
    beginning."""
    run_dir = tmp_path_factory.mktemp("run")
    told = {"policy": "scorpio", "run_dir": str(run_dir), "latency": PROFILE.to_dict()}
    spec = EngineSpec(max_num_seqs=4, pipeline_depth=1, enable_prefix_caching=True)
    engine = Engine(spec, scorpio={**told, "classes": {"chat": {"ttft_ms": 500, "tpot_ms": 20}}})
    random_ = Random(1)
    for number in range(120):
        name, ids = f"chatcmpl-{number:04x}-{number:08x}", (7, 8) if number % 3 == 0 else ()
        prompt, output = random_.randrange(20, 1500), random_.randrange(1, 40)
        xargs = {**random_.choice(SLOS), "slo_tenant": f"key-{number % 2}/"}
        now_s = engine.scorpio.virtual_s
        request = engine.factory.make(name, now_s, prompt, output, xargs, prefix_ids=ids)
        engine.runner.expect(name, number + 1, prompt, output)
        engine.outputs[name] = []
        engine.scheduler.add_request(request)
        for _ in range(random_.randrange(3)):
            engine.step(0.03)
    engine.drain()
    engine.scheduler.shutdown()
    return run_dir


def test_every_request_is_explained(served: Path) -> None:
    book = read_ledger(served)
    assert len(book.entries) == 120
    assert {e.verdict for e in book.entries} == {"admitted", "degraded", "refused"}
    for known in book.entries:
        name = known.id.rpartition("-")[0]
        code, said, _ = run("explain", name, "--run-dir", str(served))
        assert (code, said.partition(": ")[0]) == (0, known.id)
        assert (
            said.splitlines()[0]
            .split(": ")[1]
            .startswith("refused" if known.verdict == "refused" else "served")
        )


def test_the_trace_has_what_was_asked_for(served: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "mine.jsonl"
    code, said, _ = run("record", "--run-dir", str(served), "--out", str(out))
    assert code == 0
    lines = said.splitlines()
    book, rows = read_ledger(served), read_trace(out)
    unanswered = sum(e.verdict == "refused" for e in book.entries)
    assert lines[0].endswith(": 120 requests")
    assert lines[2].startswith(f"{unanswered} answers never came: 0 have the predicted length")
    assert lines[-1] == str(out)
    start_s = book.entries[0].arrived_unix_s
    mean = sum(e.output_tokens for e in book.entries) / (120 - unanswered)
    for known, row in zip(book.entries, rows, strict=True):
        assert row.arrival_s == pytest.approx(known.arrived_unix_s - start_s, abs=1e-6)
        assert row.prompt_tokens == known.prompt_tokens
        guess = min(round(mean), known.max_tokens)
        assert row.output_tokens == (known.output_tokens or guess)
        assert row.tenant == known.tenant
        assert row.xargs.get("slo_ttft_ms") == known.slo_ttft_ms
        assert row.xargs.get("slo_tpot_ms") == known.slo_tpot_ms
        assert row.xargs.get(XARG_ON_MISS, "reject") == known.on_miss
    assert len({row.tenant for row in rows}) == 2
    common = [row for at, row in enumerate(rows) if at % 3 == 0 and row.prompt_tokens >= 512]
    assert len(common) > 10
    # What each shares is its tenant's alone: the engine keeps no tenants apart by itself.
    assert len({row.hash_ids[0] for row in common}) == 1
    others = [row.hash_ids for at, row in enumerate(rows) if at % 3]
    assert len({i for ids in others for i in ids}) == sum(map(len, others))


def test_compare_and_replay_take_it_as_it_is(served: Path, tmp_path: Path) -> None:
    """`--mix` need not be said: its rows state their SLOs."""
    out = tmp_path / "mine.jsonl"
    run("record", "--run-dir", str(served), "--out", str(out))
    words = ["compare", "--trace", str(out), "--policy", "fcfs,scorpio", "--workers", "1"]
    words += ["--gpu", "a100-llama-3.1-8b", "--out", str(tmp_path / "cmp")]
    code, said, stderr = run(*words)
    assert code == 0, stderr
    assert "mix trace" in said
    assert (tmp_path / "cmp" / "report.html").exists()
    sent = load_workload(str(out), mix="trace")
    assert {r.on_miss for r in sent} == {"", "degrade"}
    code, _, stderr = run("replay", "--url", "http://127.0.0.1:9", "--trace", str(out), "--out",
                          str(tmp_path / "replay"))  # fmt: skip
    assert code == 1, stderr
    assert "127.0.0.1:9" in stderr  # it got as far as asking the server


def test_lengths_that_are_not_known() -> None:
    came = entry(id="a", output_tokens=40)
    predicted = refused(id="b", predicted_tokens=52.4)
    unknown = refused(id="c", predicted_tokens=None)
    short = refused(id="d", predicted_tokens=None, max_tokens=7)
    left = entry(id="e", outcome="aborted", output_tokens=9)
    empty = entry(id="f", prompt_tokens=0, output_tokens=40)
    found = recorded([came, predicted, unknown, short, left, empty])
    assert [row.output_tokens for row in found.rows] == [40, 52, 40, 7, 9]
    assert (found.predicted, found.taken_as_mean, found.passed_over) == (1, 2, 1)
    only = recorded([unknown])
    assert [row.output_tokens for row in only.rows] == [100]  # nothing better is known
    assert "1 request without a prompt" in "\n".join(found.lines())


def test_a_quiet_server_is_told_which_option_to_give(tmp_path: Path) -> None:
    """Less than one request a minute: read alone, the times could be of another unit."""
    sparse = [entry(id=f"r{n}", arrived_unix_s=1.8e9 + 300.0 * n, blocks=()) for n in range(60)]
    write(tmp_path, *sparse)
    out = tmp_path / "mine.jsonl"
    code, said, _ = run("record", "--run-dir", str(tmp_path), "--out", str(out))
    assert code == 0
    assert "say --time-unit ms with it" in said


@pytest.mark.parametrize("command", [("explain", "x"), ("record", "--out", "x.jsonl")])
def test_no_ledger_is_one_line(
    tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, stderr = run(*command, "--run-dir", str(tmp_path))
    assert (code, said) == (2, "")
    assert stderr.startswith(f"scorpio: {tmp_path}: no ledger")
    assert len(stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_id_and_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, entry())
    code, _, stderr = run("explain", "nope\x1b[31m", "--run-dir", str(tmp_path))
    assert code == 2
    assert stderr == (
        f"scorpio: no request 'nope\\x1b[31m' in {tmp_path}: it holds 1 request, "
        "2027-01-15 08:00:00 UTC to 2027-01-15 08:00:00 UTC, the last chatcmpl-aa11; "
        "a request is written when it ends\n"
    )
    code, _, stderr = run("record", "--run-dir", str(tmp_path), "--out", "/proc/x.jsonl")
    assert (code, stderr.splitlines()[0][:28]) == (2, "scorpio: --out /proc/x.jsonl")


def test_no_block_hash_leaves_the_ledger(tmp_path: Path) -> None:
    write(tmp_path, entry(blocks=(4_000_000_000_001, 4_000_000_000_002)))
    out = tmp_path / "mine.jsonl"
    assert run("record", "--run-dir", str(tmp_path), "--out", str(out))[0] == 0
    assert json.loads(out.read_text())["hash_ids"] == [0, 1]
