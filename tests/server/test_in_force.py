"""Does the server say what is in force, when it starts and in its status?"""

from __future__ import annotations

import logging

import pytest

from scorpio.core.registry import policy_names, policy_options
from scorpio.server.context import attach_server
from scorpio.server.state.in_force import in_force, told
from tests.server.fake_vllm import FakeEngine, FakeServer, client
from tests.server.test_start import lifespan

CONFIG = {
    "policy": "scorpio-paper",
    "policy_options": {"kappa": 1.5},
    "classes": {"chat": {"ttft_ms": 500, "value": 4}, "batch": {"on_miss": "wait"}},
    "default_class": "batch",
}


def test_every_option_has_its_value() -> None:
    for name in policy_names():
        assert isinstance(policy_options(name, {}), dict)
    found = policy_options("scorpio", {"patience_s": 20.0})
    assert found["patience_s"] == 20.0
    assert found["light_share"] > 0.0
    with pytest.raises(ValueError, match="no option nope"):
        policy_options("edf", {"nope": 1.0})


def test_what_is_said() -> None:
    server = attach_server(FakeServer(FakeEngine(), CONFIG))
    server.environ = {}
    facts = in_force(server)
    assert facts["policy_options"]["kappa"] == 1.5  # type: ignore[index]
    assert len(facts["policy_options"]) > 1  # type: ignore[arg-type]
    lines = list(told(facts))
    assert any(line.startswith("versions: scorpio 0.") for line in lines)
    assert "model: tiny" in lines
    assert (
        "classes: batch (on_miss wait, value 1.0), chat (ttft_ms 500, on_miss reject, value 4)"
        in [line.replace("500.0", "500").replace("4.0", "4") for line in lines]
    )
    assert "default_class: batch" in lines
    assert "shadow: none" in lines
    assert any(line.startswith("latency_profile: none") for line in lines)
    assert "unsupported: refuse" in lines
    assert "admin: off: SCORPIO_ADMIN_TOKEN is not set" in lines
    assert "custom scheduler class" in lines[-1]
    server.environ = {"SCORPIO_ADMIN_TOKEN": "secret"}
    assert "admin: on" in told(in_force(server))
    assert "secret" not in " ".join(told(in_force(server)))


async def test_it_is_in_the_status_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer(FakeEngine(), CONFIG)
    found = (await client(server).request("GET", "/scorpio/status")).json()["in_force"]
    assert found["policy"] == "scorpio-paper"
    assert found["engines"] == 1
    with caplog.at_level(logging.INFO, "vllm.scorpio"):
        await lifespan(server)
    assert "Scorpio: policy: scorpio-paper" in caplog.text
