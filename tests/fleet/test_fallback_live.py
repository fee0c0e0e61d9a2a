"""Do real engines of a second deployment serve what those of the first refuse?

The first goes by a profile in which no token takes as little as a millisecond, so it refuses these
classes however fast the machine is; the fallback has no profile, so it refuses nothing by forecast.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engine_server import MODEL, UNTIMED, running, write_inputs
from tests.fleet.live import FLEET_MARKS, STOP_S, TEXT, VLLM_ARGS, LiveFleet

pytestmark = FLEET_MARKS
CHEAP = "tiny-8bit"
HEADER = "x-scorpio-fallback"
CLASSES = f"""
[classes.eager]
tpot_ms = 1
fallback = "{CHEAP}"

[classes.capped]
tpot_ms = 1
fallback = "{CHEAP}"
fallback_share = 0.5
"""


@pytest.fixture(scope="module")
def two_deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    directory = tmp_path_factory.mktemp("fallback")
    slo, latency = write_inputs(directory)
    slo.write_text(slo.read_text() + CLASSES)
    command = [
        *(sys.executable, "-m", "scorpio", "serve", MODEL, "--replicas", "1"),
        *("--fallback-model", MODEL, "--fallback-name", CHEAP),
        *("--policy", "scorpio-paper", "--latency", str(latency), *UNTIMED),
        *("--slo-config", str(slo), *VLLM_ARGS),
    ]
    with running(directory, command, {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}) as server:
        made = LiveFleet(server)
        made.wait_for(2)
        yield made
        server.process.stop(STOP_S)


def ask(
    fleet: LiveFleet, slo_class: str, body: dict[str, Any] | None = None
) -> tuple[int, dict[str, str], bytes]:
    objective = {"x-llm-d-inference-objective": slo_class}
    return fleet.server.call("POST", "/v1/completions", TEXT | (body or {}), objective)


def deployments(fleet: LiveFleet) -> dict[bool, str]:
    """Name of the replica of each: is it the fallback's?"""
    return {replica["fallback"]: name for name, replica in fleet.replicas().items()}


def test_the_first_serves_what_it_can(two_deployments: LiveFleet) -> None:
    status, headers, raw = ask(two_deployments, "interactive")
    assert (status, HEADER in headers) == (200, False)
    assert headers["x-scorpio-replica"] == deployments(two_deployments)[False]
    assert json.loads(raw)["model"] == MODEL


def test_a_crowd_that_the_first_refuses_is_served_by_the_fallback(
    two_deployments: LiveFleet,
) -> None:
    cheap = deployments(two_deployments)[True]
    bodies: list[dict[str, Any]] = [{"prompt": f"hello {n}", "model": MODEL} for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda body: ask(two_deployments, "eager", body), bodies))
    for status, headers, raw in answers:
        assert (status, headers[HEADER], headers["x-scorpio-replica"]) == (200, CHEAP, cheap)
        assert json.loads(raw)["model"] == CHEAP
    assert two_deployments.metric("scorpio_fleet_fallbacks_total", "eager") == 16
    told = two_deployments.server.status()["fallback"]
    assert told["model"] == CHEAP
    assert told["classes"]["eager"] == {"came": 16, "fell_back": 16, "most_share": 1.0}


def test_a_stream_falls_back_too(two_deployments: LiveFleet) -> None:
    status, headers, raw = ask(two_deployments, "eager", {"stream": True})
    assert (status, headers[HEADER]) == (200, CHEAP)
    assert raw.rstrip().endswith(b"data: [DONE]")


def test_the_ceiling_holds(two_deployments: LiveFleet) -> None:
    got = [ask(two_deployments, "capped", {"prompt": f"a {n}"})[0] for n in range(8)]
    assert got == [429, 200] * 4


def test_a_class_without_a_fallback_is_refused(two_deployments: LiveFleet) -> None:
    status, headers, _ = ask(two_deployments, "hopeless")
    assert (status, HEADER in headers) == (429, False)


def test_the_fallback_can_be_named(two_deployments: LiveFleet) -> None:
    status, headers, raw = ask(two_deployments, "interactive", {"model": CHEAP})
    assert (status, HEADER in headers, json.loads(raw)["model"]) == (200, False, CHEAP)
    assert headers["x-scorpio-replica"] == deployments(two_deployments)[True]
