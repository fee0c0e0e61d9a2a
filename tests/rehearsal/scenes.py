"""Which acts and failures are rehearsed? One function each; it leaves the server as it found it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from scorpio.proctree import tree_of
from tests.engine_server import EngineServer
from tests.rehearsal.scene import BEARER, Seen, fires, metric_lines, series, status_lines

STALL_S = 3.0
BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 4}
HOPELESS = {"x-llm-d-inference-objective": "hopeless"}  # a TTFT SLO of 1 ms


def ask(server: EngineServer, headers: dict[str, str] | None = None, **more: Any) -> int:
    return server.call("POST", "/v1/completions", BODY | more, headers)[0]


def until(server: EngineServer, what: str, ready: Callable[[], bool], work: bool = True) -> None:
    def tried() -> bool:
        if work:
            ask(server)
        return ready()

    server.wait_for(tried, what)


def _off(server: EngineServer, turn: Callable[[], object], title: str, done: str) -> Seen:
    seen = Seen(title, done, alert="ScorpioPolicyOffByHand")
    before = ask(server, HOPELESS)
    turn()
    until(server, "off by hand", lambda: server.status().get("policy_off") == "by_hand")
    seen.seen += status_lines(server, "policy", "policy_off")
    seen.seen += metric_lines(server, "scorpio_policy_off", why="by_hand")
    seen.seen += [f"a request that cannot be on time: {before} before, {ask(server, HOPELESS)} now"]
    seen.fired = fires(server, seen.alert)
    server.turn_on()
    until(server, "on again", lambda: server.status().get("policy_off") == "")
    seen.seen += [f"and {ask(server, HOPELESS)} after DELETE /scorpio/off"]
    return seen


def off_by_act(server: EngineServer) -> Seen:
    """The admin's call."""
    return _off(
        server,
        lambda: server.call("PUT", "/scorpio/off", headers=BEARER),
        "Back to stock vLLM",
        "`PUT /scorpio/off`",
    )


def off_by_signal(server: EngineServer) -> Seen:
    """Where no HTTP gets through."""
    return _off(
        server,
        lambda: os.kill(server.process.pid, signal.SIGUSR2),
        "Back to stock vLLM, by signal",
        "`kill -USR2` to the server's process",
    )


def bad_file(server: EngineServer) -> Seen:
    """An SLO file that is wrong."""
    file = Path(str(server.status()["slo_config"]["file"]))
    good = file.read_text()
    seen = Seen(
        "An SLO file that is wrong", "`ttft_ms = -5`, then SIGHUP", alert="ScorpioConfigNotTaken"
    )
    try:
        file.write_text(good.replace("ttft_ms = 60000", "ttft_ms = -5"))
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for(lambda: any(series(server, "scorpio_config_error").values()), "the error")
        seen.seen += [f"slo_config.error: {server.status()['slo_config']['error']}"]
        seen.seen += metric_lines(server, "scorpio_config_error")
        seen.fired = fires(server, seen.alert)
    finally:
        file.write_text(good)
    os.kill(server.process.pid, signal.SIGHUP)
    server.wait_for(lambda: not any(series(server, "scorpio_config_error").values()), "it is taken")
    seen.seen += ["with the file corrected and SIGHUP again:"]
    seen.seen += metric_lines(server, "scorpio_config_error")
    return seen


def frozen(server: EngineServer) -> Seen:
    """An engine that stands still with work at hand."""
    seen = Seen(
        "An engine that stands still", "SIGSTOP to the engine's process, with work at hand",
        alert="ScorpioEngineStalled",
    )  # fmt: skip
    (engine,) = (p.pid for p in tree_of(server.process.pid) if _is_engine(p.pid))

    def health() -> str:
        code, _, raw = server.call("GET", "/scorpio/health")
        return f"GET /scorpio/health: {code} {json.loads(raw)['status']}"

    seen.seen += [health()]
    os.kill(engine, signal.SIGSTOP)
    patient = Thread(target=ask, args=(server,))  # without an SLO: it waits until the end
    patient.start()
    try:
        started = time.monotonic()
        code, headers, _ = server.call("POST", "/v1/completions", BODY, {"x-slo-ttft-ms": "5000"})
        waited_s = time.monotonic() - started
        why = headers.get("x-scorpio-reject-reason")
        seen.seen += [f"a request with a TTFT SLO of 5 s: {code} ({why}) after {waited_s:.0f} s"]
        server.wait_for(lambda: "200" not in health(), "unhealthy")
        age_s = time.time() - float(server.status()["heartbeat_unix_s"])
        seen.seen += [health(), f"the status is {age_s:.0f} s old; vLLM's own /health: "
                      f"{server.call('GET', '/health')[0]}"]  # fmt: skip
        seen.fired = fires(server, seen.alert)
    finally:
        os.kill(engine, signal.SIGCONT)
    server.wait_for(lambda: "200" in health(), "healthy")
    patient.join()
    seen.seen += [f"after SIGCONT: {health()}; the request without an SLO that waited is answered"]
    return seen


def _is_engine(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"EngineCore" in command or b"spawn_main" in command


def wrong_profile(server: EngineServer) -> Seen:
    """The rehearsal's profile is of a slower engine."""
    seen = Seen(
        "A latency profile of another engine", "requests; the profile is of a slower engine",
        alert="ScorpioProfileAlarm",
    )  # fmt: skip
    until(server, "the alarm", lambda: bool(server.status().get("profile_alarm")))
    seen.seen += status_lines(server, "profile_alarm", "profile_factor")
    seen.seen += metric_lines(server, "scorpio_profile_alarm")
    seen.fired = fires(server, seen.alert)
    return seen


def budget(server: EngineServer) -> Seen:
    """A class that keeps nothing."""
    seen = Seen(
        "A class that burns its error budget", "20 requests of a class that cannot be on time",
        alert="ScorpioClassBudgetBurnsFast",
    )  # fmt: skip
    for _ in range(20):
        ask(server, HOPELESS)
    name = "scorpio_error_budget_burn_ratio"

    def burns() -> bool:
        return any(v > 14.4 for v in series(server, name, slo_class="hopeless").values())

    server.wait_for(burns, "the burn")
    seen.seen += metric_lines(server, name, slo_class="hopeless")
    seen.fired = fires(server, seen.alert)
    return seen


def overrun(server: EngineServer) -> Seen:
    """Planning may cost next to nothing on this server."""
    seen = Seen(
        "Planning that costs too much", "a long answer, with `most_overhead = 0.0001`",
        alert="ScorpioBreakerOpen",
    )  # fmt: skip

    def opened() -> bool:
        ask(server, max_tokens=200, ignore_eos=True)
        return server.status().get("policy_off") == "overrun"

    server.wait_for(opened, "the breaker")
    seen.seen += status_lines(server, "policy_off", "breakers_opened")
    seen.seen += metric_lines(server, "scorpio_breaker_open")
    seen.seen += [f"requests are served meanwhile: {ask(server)}"]
    seen.fired = fires(server, seen.alert)
    return seen


def canary(server: EngineServer) -> Seen:
    """Half of the requests are the policy's."""
    seen = Seen("A share of the requests", "requests that cannot be on time, `--canary 0.5`")
    # A profile that was measured a moment ago has to prove itself first.
    until(server, "a refusal", lambda: ask(server, HOPELESS) == 429)
    codes = [ask(server, HOPELESS) for _ in range(40)]
    told = f"{codes.count(429)} answered 429, {codes.count(200)} served late"
    seen.seen += [f"of the last {len(codes)}: {told}; of all:"]
    name = "scorpio_canary_requests_total"
    for arm, outcome in (("policy", "rejected"), ("stock", "finished"), ("stock", "good")):
        seen.seen += metric_lines(server, name, arm=arm, outcome=outcome, slo_class="hopeless")
    if not (0 < codes.count(429) < len(codes)):
        pytest.fail(f"one side has them all: {codes}")
    return seen


FIRST: tuple[Callable[[EngineServer], Seen], ...] = (
    off_by_act, off_by_signal, bad_file, frozen, wrong_profile, budget,
)  # fmt: skip
SECOND: tuple[Callable[[EngineServer], Seen], ...] = (canary, overrun)
