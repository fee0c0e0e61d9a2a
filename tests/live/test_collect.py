"""Are lengths recorded once each, kept over a broken server, and never left half-written?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from predictors.length.dataset import DataError, read_pairs
from predictors.length.prompts import Prompt, read_prompts
from scorpio.cli.app import app
from scorpio.live.collect.answers import Asking, Collected, CollectionFailed, collect, partial_path

ASKING = Asking("m", 50, (0.0, 1.0))
Answer = Callable[[dict[str, Any]], web.Response]


def answer(body: dict[str, Any]) -> web.Response:
    """As many tokens as the prompt has characters."""
    length = len(body["messages"][-1]["content"])
    limit = body["max_tokens"]
    return web.json_response(
        {
            "choices": [{"finish_reason": "stop" if length < limit else "length"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": min(length, limit)},
        }
    )


def run(
    prompts: list[Prompt], out: Path, reply: Answer = answer, limit: int | None = None
) -> tuple[Collected, list[dict[str, Any]]]:
    """Collect from a server in this process: (result, bodies it saw)."""
    seen: list[dict[str, Any]] = []

    async def complete(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return reply(seen[-1])

    async def main() -> Collected:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", complete)
        async with TestServer(application) as server:
            url = str(server.make_url("/"))
            return await collect(url, prompts, ASKING, out, limit=limit, concurrency=2)

    return asyncio.run(main()), seen


def prompts_file(path: Path, count: int) -> list[Prompt]:
    path.write_text("".join(json.dumps({"prompt": "x" * (i + 1)}) + "\n" for i in range(count)))
    return read_prompts(path)


def test_rows_are_what_train_length_reads(tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    lines = [
        {"prompt": "ab", "system": "s", "conversation": "c", "tenant": "t"},
        {"prompt": "x" * 60, "temperature": 0.5, "max_tokens": 20, "response_tokens": 3},
    ]
    source.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "deep" / "pairs.jsonl"
    done, seen = run(read_prompts(source), out)
    assert done == Collected(rows=2, refused=0, resumed=0)
    assert [m["role"] for m in seen[0]["messages"]] == ["system", "user"]
    first, second = map(json.loads, out.read_text().splitlines())
    assert first["response_tokens"] == 2
    assert (first["system"], first["conversation"], first["tenant"]) == ("s", "c", "t")
    assert (second["response_tokens"], second["finish_reason"]) == (20, "length")
    assert (second["temperature"], second["max_tokens"]) == (0.5, 20)
    pairs = read_pairs(out, fewest=2)
    assert pairs.response_tokens.tolist() == [2, 20]
    assert pairs.requests[0].model == "m"
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_a_failing_server_loses_nothing(tmp_path: Path) -> None:
    prompts, out = prompts_file(tmp_path / "p.jsonl", 9), tmp_path / "o.jsonl"

    def dies_at_six(body: dict[str, Any]) -> web.Response:
        if len(body["messages"][0]["content"]) >= 6:
            return web.json_response({"error": {"message": "engine dead"}}, status=500)
        return answer(body)

    with pytest.raises(CollectionFailed, match=r"engine dead.*run it again"):
        run(prompts, out, dies_at_six)
    assert not out.exists()
    partial = partial_path(out, prompts, ASKING)
    with partial.open("ab") as file:
        file.write(b'{"line": 9, "resp')  # killed while it wrote
    kept = partial.read_bytes().count(b"\n")
    done, seen = run(prompts, out)
    assert done == Collected(rows=9, refused=0, resumed=kept)
    assert len(seen) == 9 - kept
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["response_tokens"] for row in rows] == list(range(1, 10))
    assert not partial.exists()


def test_a_shorter_limit_ends_a_stopped_run(tmp_path: Path) -> None:
    prompts, out = prompts_file(tmp_path / "p.jsonl", 8), tmp_path / "o.jsonl"

    def slow_ones_fail(body: dict[str, Any]) -> web.Response:
        length = len(body["messages"][0]["content"])
        return web.Response(status=503) if length == 7 else answer(body)

    with pytest.raises(CollectionFailed):
        run(prompts, out, slow_ones_fail)
    done, _ = run(prompts, out, limit=4)
    assert done.rows == len(out.read_text().splitlines()) == 4


def test_what_the_server_never_takes_is_left_out(tmp_path: Path) -> None:
    prompts, out = prompts_file(tmp_path / "p.jsonl", 4), tmp_path / "o.jsonl"

    def too_long(body: dict[str, Any]) -> web.Response:
        long = len(body["messages"][0]["content"]) == 2
        return web.Response(status=400) if long else answer(body)

    done, _ = run(prompts, out, too_long)
    assert done == Collected(rows=3, refused=1, resumed=0)


@pytest.mark.parametrize(
    "reply",
    [
        lambda _: web.Response(text="<html>"),
        lambda _: web.json_response({"choices": [], "usage": {}}),
        lambda _: web.json_response([1]),
        lambda _: web.json_response(
            {
                "choices": [{"finish_reason": "abort"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1},
            }
        ),
    ],
)
def test_strange_answers_are_failures(tmp_path: Path, reply: Answer) -> None:
    with pytest.raises(CollectionFailed):
        run(prompts_file(tmp_path / "p.jsonl", 1), tmp_path / "o.jsonl", reply)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ('{"prompt": ""}', "prompt is empty"),
        ('{"prompt": 3}', "prompt must be a string"),
        ('{"prompt": "a", "temperature": -1}', "temperature"),
        ('{"prompt": "a", "max_tokens": 1.5}', "max_tokens"),
    ],
)
def test_bad_prompts_are_refused_by_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n' + line)
    with pytest.raises(DataError, match=reason) as failure:
        read_prompts(path)
    assert str(failure.value).startswith(f"{path}:2: ")
    options = ["--prompts", str(path), "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, ["collect", *options, "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert f"{path}:2: " in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]


def test_an_unreachable_server_and_a_bad_temperature(tmp_path: Path) -> None:
    prompts_file(tmp_path / "p.jsonl", 1)
    base = ["collect", "--prompts", str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "o")]
    gone = CliRunner().invoke(app, [*base, "--url", "http://127.0.0.1:9"])
    assert gone.exit_code == 1
    bad = CliRunner().invoke(app, [*base, "--temperature", "nan"])
    assert bad.exit_code == 2
    assert "--temperature" in bad.stderr
