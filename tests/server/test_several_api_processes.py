"""Two API processes of one real server: is each right, do both say the same, is nothing counted
twice, and does the server end as one?"""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scorpio.proctree import is_alive, tree_of, wait_gone
from scorpio.tenant_settings import key_line
from tests.engine_server import ADMIN_TOKEN, OWN_ENGINE_MARKS, SLO_CONFIG, EngineServer, serving

pytestmark = OWN_ENGINE_MARKS
KEY = "sk-one-0123456789abcdef"
TENANT = f'[tenants.one]\nkeys = ["{key_line(KEY)}"]\nmost_in_flight = 3\n'
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
BODY: dict[str, Any] = {"model": "tiny", "prompt": "one and the same", "ignore_eos": True}
MOST_S = 60.0
EACH = 6  # requests of a kind, on each connection


class Connection:
    """One that is kept open."""

    def __init__(self, server: EngineServer) -> None:
        self.http = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=120)

    def send(self, path: str, body: object = None, method: str = "", **headers: str) -> None:
        raw = None if body is None else json.dumps(body).encode()
        given = {"content-type": "application/json", "authorization": f"Bearer {KEY}"} | headers
        self.http.request(method or ("POST" if raw else "GET"), path, raw, given)

    def read(self) -> tuple[int, Any]:
        answer = self.http.getresponse()
        raw = answer.read()
        text = answer.getheader("content-type", "").startswith("text/")
        return answer.status, raw.decode() if text else json.loads(raw)

    def ask(self, path: str, body: object = None, method: str = "", **headers: str) -> Any:
        self.send(path, body, method, **headers)
        return self.read()


@contextmanager
def two_connections(server: EngineServer) -> Iterator[list[Connection]]:
    """Each to a process of its own: vLLM gives a new one to the process with the fewest, if that
    has a moment, and has started."""
    made: dict[int, Connection] = {}
    opened: list[Connection] = []
    end_s = time.monotonic() + MOST_S
    try:
        while len(made) < 2:
            assert time.monotonic() < end_s, "one process takes all connections"
            time.sleep(min(0.01 * len(opened), 0.3))
            opened.append(Connection(server))
            assert opened[-1].ask("/scorpio/health")[0] == 200
            made.setdefault(answering(server, opened[-1]), opened[-1])
        yield list(made.values())
    finally:
        for one in opened:
            one.http.close()


def answering(server: EngineServer, one: Connection) -> int:
    """The process at the other end."""
    ours, theirs = (
        f":{at[1]:04X}" for at in (one.http.sock.getsockname(), one.http.sock.getpeername())
    )
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    (inode,) = (row[9] for row in rows if row[1].endswith(theirs) and row[2].endswith(ours))
    for process in tree_of(server.process.pid):
        for handle in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(handle) == f"socket:[{inode}]":
                    return process.pid
    pytest.fail("no process has this connection")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    directory = tmp_path_factory.mktemp("several")
    slo = directory / "own.toml"
    slo.write_text(SLO_CONFIG + TENANT)
    options = ("--api-server-count", "2", "--slo-config", str(slo))
    env = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600"}
    with serving(directory, *options, "--distributed-executor-backend", "uni", env=env) as made:
        yield made


def completion(tokens: int, slo_class: str = "interactive", **more: Any) -> dict[str, Any]:
    return BODY | {"max_tokens": tokens, "vllm_xargs": {"slo_class": slo_class}} | more


def totals(text: str) -> dict[str, float]:
    """Of our series, by name and labels; times of predictions are measured anew."""
    return {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("scorpio_") and "_created" not in sample.name
    }


def summed(found: dict[str, float], name: str, *labels: str) -> float:
    return sum(v for k, v in found.items() if k.split()[0] == name and all(w in k for w in labels))


def test_both_count_and_nothing_is_counted_twice(server: EngineServer) -> None:
    with two_connections(server) as both:
        for one in both:
            for _ in range(EACH):
                assert one.ask("/v1/completions", completion(4))[0] == 200
                assert one.ask("/v1/completions", completion(4, "hopeless"))[0] == 429
            assert one.ask("/v1/completions", completion(4), **{"x-slo-ttft-ms": "no"})[0] == 400

        def counted() -> bool:
            found = both[0].ask("/scorpio/status")[1].get("finished_by_state")
            return bool(found == {"finished": 2 * EACH, "rejected": 2 * EACH})

        server.wait_for(counted, "every request in the status")
        time.sleep(1.1)  # what is no limit is told to the other twice a second
        pages = [totals(one.ask("/metrics")[1]) for one in both]
        assert pages[0] == pages[1]
        found = pages[0]
        assert summed(found, "scorpio_requests_total", "'finished'") == 2 * EACH
        assert summed(found, "scorpio_requests_total", "'rejected'") == 2 * EACH
        assert summed(found, "scorpio_admission_rejections_total") == 2 * EACH
        assert summed(found, "scorpio_refusals_answered_total", "'429'") == 2 * EACH
        assert summed(found, "scorpio_malformed_requests_total") == 2
        assert summed(found, "scorpio_tenant_tokens_total", "'output'") == 2 * EACH * 4
        assert summed(found, "scorpio_length_predictions_total") == 0  # ignore_eos: none is asked
        states = [one.ask("/scorpio/status")[1] for one in both]
        assert states[0]["in_force"]["api_processes"] == 2
        for state in states:
            del state["error_budgets"]  # each looks every five seconds
        assert states[0] == states[1]
        assert states[0]["tenants"]["one"]["in_flight"] == 0
        assert states[0]["tenants"]["one"]["output_tokens"] == 2 * EACH * 4


def test_lengths_are_learned_in_each(server: EngineServer) -> None:
    with two_connections(server) as both:
        for one in both:
            assert one.ask("/v1/completions", completion(3, ignore_eos=False))[0] == 200
        time.sleep(1.1)
        pages = [totals(one.ask("/metrics")[1]) for one in both]
        for page in pages:
            assert summed(page, "scorpio_length_predictions_total") == 2
            assert summed(page, "scorpio_length_outcomes_total") == 2


def test_a_tenant_has_its_limit_once(server: EngineServer) -> None:
    with two_connections(server) as both, two_connections(server) as more:

        def only_the_fourth_is_refused() -> bool:
            """Not when one of the three has ended before it comes: then once more."""
            for one in (*both, more[0]):
                one.send("/v1/completions", completion(400, stream=True))
            streams = [one.http.getresponse() for one in (*both, more[0])]
            status, told = more[1].ask("/v1/completions", completion(1))
            assert status == 200 or (status, told["error"]["code"]) == (429, 429)
            answers = [stream.read() for stream in streams]
            return status == 429 and all(b"data: [DONE]" in answer for answer in answers)

        server.wait_for(only_the_fourth_is_refused, "a refusal of the fourth alone")
        server.wait_for(lambda: more[1].ask("/v1/completions", completion(1))[0] == 200, "room")


def test_an_act_on_one_holds_in_both(server: EngineServer) -> None:
    with two_connections(server) as both:
        for one, policy in zip(both, ("edf", "scorpio"), strict=True):
            code, told = one.ask("/scorpio/policy", {"policy": policy}, "PUT", **ADMIN)
            assert code == 200, told

            def switched(seq: int = told["control_seq"]) -> bool:
                assert both[0].ask("/v1/completions", completion(1))[0] == 200
                states = [other.ask("/scorpio/status")[1] for other in both]
                return all(state["control_seq"] == seq for state in states)

            server.wait_for(switched, f"{policy} in the status of both")
            answers = [other.ask("/v1/completions", completion(1))[0] for other in both]
            assert answers == [200, 200]
        assert both[0].ask("/scorpio/off", {}, "PUT", **ADMIN)[0] == 200
        assert [one.ask("/scorpio/status")[1]["off_by_hand"] for one in both] == [True, True]
        assert both[1].ask("/scorpio/off", None, "DELETE", **ADMIN)[0] == 200
        assert [one.ask("/scorpio/status")[1]["off_by_hand"] for one in both] == [False, False]


def test_a_reload_holds_in_both_however_it_is_asked_for(server: EngineServer) -> None:
    with two_connections(server) as both:
        file = Path(both[0].ask("/scorpio/status")[1]["slo_config"]["file"])

        def known_to_both(name: str) -> bool:
            states = [one.ask("/scorpio/status")[1] for one in both]
            return all(name in state["classes"] for state in states)

        file.write_text(f"{SLO_CONFIG}{TENANT}[classes.first]\nttft_ms = 60000\n")
        assert both[1].ask("/scorpio/config", {}, "PUT", **ADMIN)[0] == 200
        server.wait_for(lambda: known_to_both("first"), "the file in both")
        file.write_text(f"{SLO_CONFIG}{TENANT}[classes.second]\nttft_ms = 60000\n")
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for(lambda: known_to_both("second"), "the file in both, by SIGHUP")
        for one in both:
            assert one.ask("/v1/completions", completion(1, "second"))[0] == 200
        os.kill(server.process.pid, signal.SIGUSR2)
        server.wait_for(lambda: bool(server.status()["off_by_hand"]), "off, by SIGUSR2")
        assert both[0].ask("/scorpio/off", None, "DELETE", **ADMIN)[0] == 200


def test_both_pages_show_the_same(server: EngineServer) -> None:
    with two_connections(server) as both:
        pages = [one.ask("/scorpio/page.json", **ADMIN)[1] for one in both]
        for part in ("engines", "ledger", "profile"):
            assert pages[0][part] == pages[1][part]
        assert pages[0]["recent"]["requests"] == pages[1]["recent"]["requests"] > 0
        for one in both:
            one.send("/scorpio/events", **ADMIN)
        events = [one.http.getresponse() for one in both]
        assert all(event.readline() == b"event: status\n" for event in events)


def test_sigterm_drains_both_and_leaves_nothing(server: EngineServer) -> None:
    """The last test of this server."""
    tree = tree_of(server.process.pid)
    assert len(tree) >= 4  # the parent, two API processes, the engine
    with two_connections(server) as both:
        for one in both:
            one.send("/v1/completions", completion(400, stream=True))
        streams = [one.http.getresponse() for one in both]
        assert all(stream.readline() for stream in streams)
        os.kill(server.process.pid, signal.SIGTERM)
        for stream in streams:
            assert stream.read().endswith(b"data: [DONE]\n\n")
    end_s = time.monotonic() + 60.0
    while time.monotonic() < end_s:
        seen = os.waitid(os.P_PID, server.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if seen is not None:
            assert (seen.si_code, seen.si_status) == (os.CLD_EXITED, 0)
            break
        time.sleep(0.1)
    assert not wait_gone(tree, 10.0)
    assert not any(is_alive(process) for process in tree)
    assert not (server.run_dir / "metrics").exists()
