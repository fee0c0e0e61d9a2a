"""What do a roll-out, a new profile and a drain look like, with their figures before and after?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from scorpio.live.host.process import ServerFailedError
from tests.engine_server import ADMIN_TOKEN, EngineServer
from tests.rehearsal.scene import Seen, fires, metric_lines, series, status_lines
from tests.rehearsal.scenes import BODY, HOPELESS, ask, until

COUNT = 20
QUICK = ("--budget-s", "8", "--exam-s", "3")  # the engine is small and need not be exact
_UNDER_WAY = 32  # four times the seats: seconds of work, however fast the machine


def scorpio(*words: str, env: Mapping[str, str] | None = None) -> list[str]:
    """The command's own lines; a failure is a failure of the scene."""
    done = subprocess.run(
        [sys.executable, "-m", "scorpio", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "SCORPIO_ADMIN_TOKEN": ADMIN_TOKEN, **(env or {})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (done.stdout + done.stderr).strip().splitlines()


def _figures(server: EngineServer, before: Mapping[str, float]) -> str:
    """What became of COUNT requests of one class since `before`."""
    codes = [ask(server, HOPELESS) for _ in range(COUNT)]
    want = sum(before.values()) + COUNT
    server.wait_for(lambda: sum(_counts(server).values()) >= want, "all are counted")
    now = _counts(server)
    good, late = (int(now[name] - before[name]) for name in ("good", "late"))
    return f"of {COUNT}: {codes.count(429)} refused at once, {good} kept, {late} late"


def _counts(server: EngineServer) -> dict[str, float]:
    def total(name: str, **labels: str) -> float:
        return sum(series(server, name, slo_class="hopeless", **labels).values())

    good = total("scorpio_good_requests_total")
    ended = {o: total("scorpio_requests_total", outcome=o) for o in ("finished", "rejected")}
    return {"good": good, "late": ended["finished"] - good, "refused": ended["rejected"]}


def new_policy(server: EngineServer) -> Seen:
    """From stock to Scorpio, without a restart."""
    seen = Seen("A policy is rolled out", "`PUT /scorpio/policy`: fcfs, then scorpio")
    was = str(server.status()["policy"])
    for policy in ("fcfs", "scorpio"):
        server.switch(policy)
        seen.seen += status_lines(server, "policy")
        seen.seen += [
            f"{COUNT} requests that cannot be on time, {_figures(server, _counts(server))}"
        ]
    server.switch(was)
    return seen


def new_file(server: EngineServer) -> Seen:
    """A class that promises what can be kept."""
    file = Path(str(server.status()["slo_config"]["file"]))
    good = file.read_text()
    seen = Seen(
        "An SLO file is rolled out",
        "`ttft_ms = 1` becomes 60000; `scorpio check-config`, `scorpio reload`",
    )
    seen.seen += [f"before, {_figures(server, _counts(server))}"]
    try:
        file.write_text(good.replace("ttft_ms = 1\n", "ttft_ms = 60000\n"))
        told = _reload(server, file)
        wanted = [line for line in told if "hopeless" in line or ": good, " in line]
        seen.seen += [line.strip().replace(str(file.parent), "DIR") for line in [*wanted, told[-1]]]
        seen.seen += [f"after, {_figures(server, _counts(server))}"]
    finally:
        file.write_text(good)
        _reload(server, file)
    seen.seen += [f"with the old file again, {_figures(server, _counts(server))}"]
    return seen


def _reload(server: EngineServer, file: Path) -> list[str]:
    return [*scorpio("check-config", str(file)), *scorpio("reload", "--url", server.url)]


def profile_again(server: EngineServer) -> Seen:
    """What the runbook of the alarm says, done."""
    seen = Seen(
        "When to profile again",
        "`scorpio profile --url URL --run-dir DIR --apply`, as the runbook of the alarm says",
    )
    until(server, "the alarm", lambda: bool(server.status().get("profile_alarm")))
    seen.seen += ["before:", *status_lines(server, "profile_alarm", "profile_factor")]
    out = server.run_dir.parent / "again.json"
    where = ("--url", server.url, "--run-dir", str(server.run_dir), "--out", str(out))
    said = scorpio("profile", "--model", "tiny", *where, "--apply", *QUICK)
    seen.seen += [said[-1].strip()]
    until(server, "no alarm", lambda: not server.status().get("profile_alarm"))
    seen.seen += ["after:", *status_lines(server, "profile_alarm", "profile_factor")]
    seen.seen += metric_lines(server, "scorpio_profile_alarm")
    assert fires(server, "ScorpioProfileAlarm") == "no"
    return seen


def door(server: EngineServer) -> Seen:
    """A client that holds a connection for nothing."""
    seen = Seen("A header without end", "300 KiB of headers, on vLLM's own HTTP server")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"x-fill: 1\r\n" * 28_000)
        status = client.recv(1000).split(b"\r\n")[0].decode()
    seen.seen += [f"answered: {status}"]
    assert " 431 " in status
    name = "scorpio_connections_closed_total"
    seen.seen += metric_lines(server, name, why="header_size")
    return seen


def drain(server: EngineServer) -> Seen:
    """The last act: the server ends."""
    seen = Seen("Drain", "SIGTERM with long answers under way")
    got: list[Any] = []

    def patient() -> None:
        code, _, raw = server.call("POST", "/v1/completions", BODY | {
            "max_tokens": 480, "ignore_eos": True})  # fmt: skip
        got.append((code, raw.count(b'"finish_reason":"length"')))

    threads = [Thread(target=patient) for _ in range(_UNDER_WAY)]
    for thread in threads:
        thread.start()

    def all_there() -> bool:
        return len(got) + int(server.status().get("unfinished") or 0) >= len(threads)

    server.wait_for(all_there, "work")
    os.kill(server.process.pid, signal.SIGTERM)
    server.wait_for(lambda: ask(server) == 503, "the drain")
    code, headers, _ = server.call("POST", "/v1/completions", BODY)
    why, again = headers.get("x-scorpio-reject-reason"), headers.get("retry-after")
    seen.seen += [f"a new request: {code} ({why}), retry-after: {again}"]
    seen.seen += [f"GET /scorpio/health: {server.call('GET', '/scorpio/health')[0]}"]
    for thread in threads:
        thread.join()
    # A status may be a moment old, so that one or the other comes after the signal.
    whole, after = got.count((200, 1)), got.count((503, 0))
    seen.seen += [f"the {len(threads) - after} answers under way: {whole} whole"]
    assert whole > 0, got
    assert whole + after == len(threads), got
    seen.seen += [_end_of(server)]
    return seen


def _end_of(server: EngineServer) -> str:
    try:
        server.wait_for(lambda: False, "its end")
    except ServerFailedError as error:
        return str(error).partition(";")[0]
    pytest.fail("it did not end")


def auto_profile(server: EngineServer) -> Seen:
    """An engine that was never measured, on a server whose clients need a key."""
    seen = Seen(
        "An engine that was never measured",
        "`scorpio serve --profile auto --api-key KEY --root-path /models`, then nothing",
    )
    log = server.process.log_path

    def lines() -> list[str]:
        return [line for line in log.read_text().splitlines() if "scorpio: " in line]

    def ended() -> bool:
        return any("measured, in force" in line or "was not measured" in line for line in lines())

    server.wait_for(ended, "the measurement", 300.0)
    told = [line[line.index("scorpio: ") :] for line in lines() if "measur" in line]
    assert "measured, in force and kept" in told[-1], told
    kept = Path(told[-1].rpartition(": ")[2])
    assert kept.is_file()
    seen.seen += [line.replace(str(kept.parents[1]), "CACHE") for line in told]
    headers = {"authorization": "Bearer another"}
    refused = server.call("POST", "/v1/completions", BODY, headers)[0]
    seen.seen += [f"a request without that key: {refused}, with it: {ask(server)}"]
    until(server, "in force", lambda: server.status().get("latency_source") != "none")
    seen.seen += status_lines(server, "policy", "profile_alarm")
    # Its first words are a command's, and a page's commands are tried.
    profile = str(server.status()["in_force"]["latency_profile"]).partition(", ")[2]
    seen.seen += [f"in_force.latency_profile: ... {profile}"]
    return seen
