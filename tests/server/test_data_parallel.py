"""Two data-parallel engines behind one real server: is each seen for itself, and all as one?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import vllm
from prometheus_client.parser import text_string_to_metric_families

from tests.engine_server import OWN_ENGINE_MARKS, EngineServer, serving

pytestmark = [
    *OWN_ENGINE_MARKS,
    pytest.mark.skipif(
        vllm.__version__.startswith("0.33"),
        reason="0.33's CPU worker finds no core of its own for the second rank here",
    ),
]
REQUESTS = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    directory = tmp_path_factory.mktemp("data_parallel")
    # vLLM binds each engine to cores of its own: two engines on few cores get none.
    env = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with serving(directory, "--data-parallel-size", "2", env=env) as made:
        yield made


def ask(server: EngineServer, slo_class: str = "interactive") -> tuple[int, str]:
    body = {"model": "tiny", "prompt": "one and the same", "max_tokens": 24, "temperature": 0}
    body |= {"vllm_xargs": {"slo_class": slo_class}}
    code, _, raw = server.call("POST", "/v1/completions", body)
    return code, json.loads(raw)["choices"][0]["text"] if code == 200 else ""


def test_both_serve_and_refuse_and_are_told_apart(server: EngineServer) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        kept = list(pool.map(lambda _: ask(server), range(REQUESTS)))
        refused = list(pool.map(lambda _: ask(server, "hopeless"), range(REQUESTS)))
    assert len(set(kept)) == 1
    assert kept[0][0] == 200
    assert refused == [(429, "")] * REQUESTS

    def counted() -> bool:
        found = server.status().get("finished_by_state", {})
        return bool(found == {"finished": REQUESTS, "rejected": REQUESTS})

    server.wait_for(counted, "every request in the status of both")
    status = server.status()
    assert sorted(status["engines"]) == ["0", "1"]
    assert all(engine["steps"] > 0 for engine in status["engines"].values())
    assert status["steps"] == sum(engine["steps"] for engine in status["engines"].values())
    _, _, raw = server.call("GET", "/metrics")
    by_engine: dict[str, float] = {}
    for family in text_string_to_metric_families(raw.decode()):
        for sample in family.samples:
            if sample.name == "scorpio_requests_total":
                engine = sample.labels["engine"]
                by_engine[engine] = by_engine.get(engine, 0.0) + sample.value
    assert sorted(by_engine) == ["0", "1"]
    assert all(by_engine.values())
    assert sum(by_engine.values()) == 2 * REQUESTS


def test_a_switch_reaches_both(server: EngineServer) -> None:
    bearer = {"authorization": f"Bearer {server.admin_token}"}
    code, _, raw = server.call("PUT", "/scorpio/policy", {"policy": "edf"}, bearer)
    assert code == 200, raw

    def switched() -> bool:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: ask(server), range(4)))
        engines = server.status()["engines"].values()
        return all(engine["policy"] == "edf" for engine in engines)

    server.wait_for(switched, "policy edf in both engines")
    assert server.status()["control_seq"] == json.loads(raw)["control_seq"]
