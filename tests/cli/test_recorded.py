"""Do `scorpio shadow-report` and `scorpio what-if` answer on a server's own traffic, in one page
each, and tell a wrong word before vLLM is loaded?"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio import channel
from scorpio.cli.app import app
from scorpio.ledger.files import read_ledger
from tests.ledger.made import entry, write
from tests.studies.yesterday import GPU, served

FEW = ("--seeds", "2", "--workers", "1")


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run_dir of an overloaded server under `fcfs`, which `scorpio` watched."""
    return served(tmp_path_factory.mktemp("run"))


def whole(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (row for row in rows if row["name"] == "all")
    return found


def is_one_file(page: str) -> bool:
    """Nothing is fetched, and a phone may scroll what is wide."""
    assert 'name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme:dark" in page
    assert page.count("<table") == page.count('<div class="scroll"><table')
    return not re.search(r'(?:src|href|srcset)="(?!data:)', page) and "<script" not in page


def test_the_shadow_s_page(yesterday: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, stderr = run("shadow-report", "--run-dir", str(yesterday), "--out", str(out), *FEW)
    assert code == 0, stderr
    found, page = json.loads((out / "shadow.json").read_text()), (out / "shadow.html").read_text()
    assert said.splitlines()[-1] == str(out / "shadow.html")
    assert is_one_file(page)
    book = read_ledger(yesterday)
    good = sum(e.outcome == "finished" and not e.missed for e in book.entries)
    happened, twin = whole(found["twin_error"]), whole(found["attainment"])
    assert happened["before"]["mean"] == pytest.approx(good / len(book.entries))
    assert abs(happened["gain"]["mean"]) < 0.05  # the twin knows what happened
    assert happened["after"]["mean"] == twin["before"]["mean"]
    assert twin["gain"]["low"] > 0.3  # and that `scorpio` would have kept far more
    assert {row["metric"] for row in found["time_error"]} >= {"TTFT p50", "TPOT p99"}
    assert all(abs(row["error"]) < 0.2 for row in found["time_error"])
    words = [entry.shadow.verdict for entry in book.entries if entry.shadow]
    told: dict[str, int] = {}
    for counts in found["said"].values():
        told = {word: told.get(word, 0) + counts.get(word, 0) for word in {*told, *counts}}
    assert told == {word: words.count(word) for word in set(words)}
    assert found["forecast_error"][0]["requests"] == sum(
        bool(e.shadow and e.shadow.forecast_ttft_ms and e.first_token_ms) for e in book.entries
    )
    with (out / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(book.entries)
    saved = [row for row in rows if "saved" in row["would"].split()]
    assert len(saved) == found["would"]["saved"] > 50
    assert {(row["happened"], row["then"]) for row in saved} == {("late", "good")}
    assert {row["then"] for row in rows if "refused" in row["would"]} == {"refused"}
    sentence = f"fcfs kept {100 * happened['before']['mean']:.1f} % of the promises; with scorpio"
    assert sentence in page
    assert sentence in said


def test_what_if(yesterday: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--rate", "0.4", "--tighten", "ttft.t2-p30=1900", "--engine-option", "max_num_seqs=64")
    added = ("--add-class", "review:rps=1,ttft=60000,tpot=900,like=t2-p30")
    code, said, stderr = run("what-if", "--run-dir", str(yesterday), "--out", str(out), *words,
                             *added, *FEW)  # fmt: skip
    assert code == 0, stderr
    found, page = json.loads((out / "what-if.json").read_text()), (out / "what-if.html").read_text()
    assert is_one_file(page)
    answer = whole(found["attainment"])
    assert answer["requests"] == len(read_ledger(yesterday).entries)
    assert answer["gain"]["low"] > 0.2
    (new,) = (row for row in found["attainment"] if row["name"] == "review")
    assert (new["before"], new["gain"], new["after"]["mean"]) == (None, None, 1.0)
    assert abs(whole(found["twin_error"])["gain"]["mean"]) < 0.05
    assert found["what_if"][0] == "0.4 times as many requests a second"
    assert "The twin of what happened is off by" in said
    assert "The twin of what happened is off by" in page


def test_other_traffic_another_gpu_and_policy(yesterday: Path, tmp_path: Path) -> None:
    """The ledger says what the engine is, and how wrong the twin is; the trace what is asked."""
    trace = tmp_path / "mine.jsonl"
    assert run("record", "--run-dir", str(yesterday), "--out", str(trace))[0] == 0
    out = tmp_path / "out"
    words = ("--trace", str(trace), "--gpu", "h100-llama-3.1-8b", "--policy", "scorpio")
    code, _, stderr = run("what-if", "--run-dir", str(yesterday), "--out", str(out), *words, *FEW)
    assert code == 0, stderr
    found = json.loads((out / "what-if.json").read_text())
    assert whole(found["attainment"])["gain"]["low"] > 0.3
    assert found["what_if"] == ["GPU h100-llama-3.1-8b", "policy scorpio"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "what if what? Say what is to be different: --rate"),
        (("--rate", "x"), "--rate: 'x' must be a number > 0"),
        (("--tighten", "speed.a=4"), "tighten 'speed.a=4' must be OBJECTIVE.CLASS=MS"),
        (("--tighten", "tpot.chat=40"), "unknown class 'chat'; valid: t0.5-p30, t0.5-p50"),
        (("--add-class", "a:rps=1"), "add-class 'a': needs rps, and one of ttft, tpot, e2el"),
        (("--add-class", "t2-p30:rps=1,ttft=9"), "'t2-p30' is there already; --tighten changes"),
        (("--gpu", "nope"), "unknown GPU (no such latency file, nor name) 'nope'; valid: 24gb"),
        (("--policy", "nope"), "unknown policy 'nope'; valid: edf, fairbatching, fcfs"),
        (("--rate", "2", "--trace", "nope"), "unknown trace or file 'nope'"),
        (("--engine-option", "x=1"), "unknown engine option 'x'; valid: enable_chunked_prefill"),
        (("--engine-option", "max_num_seqs=4096"), "max_num_batched_tokens (2048) is below"),
        (("--rate", "2", "--out", "/proc/x"), "--out: /proc"),
    ],
)
def test_a_wrong_word_of_a_what_if(yesterday: Path, words: tuple[str, ...], said: str) -> None:
    code, _, stderr = run("what-if", "--run-dir", str(yesterday), *words)
    assert code == 2
    assert said in stderr
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "fcfs"), "--policy: 'fcfs' is the policy that served; name another one"),
        (("--policy", "nope"), "unknown policy 'nope'; valid: edf, fairbatching, fcfs"),
        (("--policy", "edf", "--policy-option", "x=1"), "--policy-option: edf has no option x"),
        (("--policy-option", "x=1"), "--policy-option: only with --policy"),
        (("--engine-option", "x=1"), "unknown engine option 'x'"),
        (("--gpu", "nope"), "--gpu: unknown GPU"),
    ],
)
def test_a_wrong_word_of_a_report(yesterday: Path, words: tuple[str, ...], said: str) -> None:
    code, _, stderr = run("shadow-report", "--run-dir", str(yesterday), *words)
    assert code == 2
    assert said in stderr
    assert len(stderr.splitlines()) == 1


def test_a_trace_alone_says_nothing_of_its_engine() -> None:
    code, _, stderr = run("what-if", "--trace", "mine.jsonl", "--rate", "1.3")
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert "--run-dir: name the ledger of the server that is asked about" in stderr


def test_a_ledger_that_is_empty_broken_or_old(tmp_path: Path) -> None:
    words = ("--run-dir", str(tmp_path))
    assert f"{tmp_path}: no ledger (ledger.jsonl)" in run("shadow-report", *words)[2]
    path = tmp_path / channel.LEDGER
    path.write_text("")
    assert f"{tmp_path}: it is empty yet" in run("shadow-report", *words)[2]
    path.write_text('{"id": 3}\n')
    told = run("what-if", *words, "--rate", "2")[2]
    assert f"no line of it is a request's ({path}:1: id: missing or of another kind)" in told
    write(tmp_path, entry(policy="fcfs"))
    assert "--gpu: " in run("shadow-report", *words, "--policy", "scorpio")[2]
    assert "--recorded-gpu: " in run("what-if", *words, "--rate", "2")[2]
    assert (
        "none watched (serve with --shadow NAME)" in run("shadow-report", *words, "--gpu", GPU)[2]
    )


def test_words_are_checked_without_vllm(yesterday: Path) -> None:
    script = (
        "import sys; from scorpio.cli.app import app\n"
        f"try: app(['what-if', '--run-dir', {str(yesterday)!r}, '--tighten', 'tpot.chat=40'])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "sys.exit(bool({'vllm', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
