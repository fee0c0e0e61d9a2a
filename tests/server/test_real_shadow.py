"""Does a real server under `fcfs` serve what a shadow would refuse, say so, and is its ledger
enough for `scorpio shadow-report` and `scorpio what-if`?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.ledger.files import LedgerError, read_ledger
from tests.engine_server import OWN_ENGINE_MARKS, EngineServer, serving

pytestmark = OWN_ENGINE_MARKS
BODY = {"model": "tiny", "prompt": "hello " * 20, "max_tokens": 8, "temperature": 0}
HOPELESS, EASY = {"x-slo-ttft-ms": "1"}, {"x-slo-ttft-ms": "60000"}
REQUESTS = 40


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """A server of its own: stock steps, and `scorpio` looks on."""
    directory = tmp_path_factory.mktemp("watched")
    with serving(directory, "--policy", "fcfs", "--shadow", "scorpio") as server:
        yield server


def lines(server: EngineServer) -> int:
    """A moment after its request has ended each is on disk."""
    try:
        return len(read_ledger(server.run_dir).entries)
    except LedgerError:
        return 0


def ask(server: EngineServer, number: int) -> tuple[int, dict[str, str]]:
    headers = HOPELESS if number % 2 else EASY
    code, said, _ = server.call("POST", "/v1/completions", BODY, headers)
    return code, said


def test_all_are_served_and_what_the_shadow_says_is_told(
    watched: EngineServer, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(watched, n), range(REQUESTS)))
    assert {code for code, _ in answers} == {200}
    assert {said["x-scorpio-policy"] for _, said in answers} == {"fcfs"}
    watched.wait_for(lambda: lines(watched) >= REQUESTS, "a line of each request")
    status = watched.status()
    shadow = status["shadow"]
    assert (shadow["policy"], shadow["errors"], status["fallbacks"]) == ("scorpio", 0, 0)
    assert status["in_force"]["shadow"] == "scorpio"
    page = watched.call("GET", "/metrics")[2].decode()
    counted = r'^scorpio_shadow_requests_total\{[^}]*verdict="refused"[^}]*\} (\S+)$'
    (told,) = re.findall(counted, page, re.MULTILINE)
    book = read_ledger(watched.run_dir)
    words = [entry.shadow for entry in book.entries if entry.shadow]
    refused = sum(word.verdict == "refused" for word in words)
    assert refused == shadow["requests"]["refused"] == float(told) > 0
    assert {entry.outcome for entry in book.entries} == {"finished"}
    for command in (
        ("shadow-report", "--out", str(tmp_path / "shadow")),
        ("what-if", "--rate", "2", "--out", str(tmp_path / "what-if")),
    ):
        typed = (*command, "--run-dir", str(watched.run_dir), "--seeds", "1", "--workers", "1")
        result = CliRunner().invoke(app, typed)
        assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "shadow" / "shadow.json").read_text())
    assert (found["policy"], found["shadow"], found["compared"]) == ("fcfs", "scorpio", REQUESTS)
    assert (tmp_path / "what-if" / "what-if.html").exists()
