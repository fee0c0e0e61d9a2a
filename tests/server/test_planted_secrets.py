"""Do prompts, keys or raw xargs end up in a log, a metric or the status? (Invariant 28.)"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest

from scorpio import channel
from scorpio.server.middleware import ScorpioMiddleware
from tests.server import fake_vllm as fake
from tests.server.asgi import Client
from tests.server.fake_vllm import FakeEngine, FakeServer, refused, tokens

CANARY = "canary-5f1c"
BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": f"{CANARY} system"},
        {"role": "user", "content": f"{CANARY} prompt"},
    ],
    "user": f"{CANARY}-user",
    "vllm_xargs": {"mine": f"{CANARY}-xarg", f"{CANARY}-name": 1, "slo_ttft_ms": 500},
}
HEADERS = {
    "authorization": f"Bearer {CANARY}-key",
    "x-llm-d-inference-fairness-id": f"{CANARY}-id",
    "x-llm-d-inference-objective": f"{CANARY}-objective",
}
# Each ends in another way: served, refused, malformed in our fields, in theirs, too long.
BAD: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({}, {"x-slo-ttft-ms": CANARY}),
    ({}, {"x-scorpio-on-miss": CANARY}),
    ({"vllm_xargs": {"slo_class": CANARY}}, {}),
    ({"vllm_xargs": {"slo_tenant": CANARY * 100}}, {"x-llm-d-inference-fairness-id": ""}),
    ({"vllm_xargs": {CANARY: CANARY * 10_000}}, {}),
    ({"user": CANARY * 100}, {"x-llm-d-inference-fairness-id": ""}),
    ({CANARY: "\ud800"}, {}),
    ({CANARY: 2**70}, {}),
    ({"n": 1000, CANARY: CANARY}, {}),
]


@pytest.mark.parametrize("behave", [fake.answer_chat, fake.stream_chat])
async def test_no_planted_secret_gets_out(
    behave: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", f"{CANARY}-admin")
    caplog.set_level(logging.DEBUG)
    channel.write_status(tmp_path, {"policy": "scorpio"})
    answers = [refused(), *([tokens(2)] * 20)]
    server = FakeServer(FakeEngine(answers), {"run_dir": str(tmp_path)}, behave=behave)
    middleware = ScorpioMiddleware(server)
    statuses = []
    for body, headers in BAD + BAD[:1]:
        raw = json.dumps(BODY | body).encode()
        made = Client(middleware, server).request(
            "POST", "/v1/chat/completions", raw, HEADERS | headers
        )
        statuses.append((await made).status)
    assert statuses == [429, *([400] * (len(BAD) - 1)), 200]
    for token in (CANARY, f"{CANARY}-admin"):
        bearer = {"authorization": f"Bearer {token}"}
        await Client(middleware, server).request(
            "PUT", "/scorpio/policy", b'{"policy": "fcfs"}', bearer
        )
    shown = [caplog.text, generate_latest(REGISTRY).decode()]
    for path in ("/metrics", "/scorpio/status"):
        reply = await Client(middleware, server).request("GET", path)
        shown.append(reply.body.decode())
    shown += [file.read_text() for file in tmp_path.iterdir()]
    assert not [text for text in shown if CANARY in text]
