"""Does the real server stand what its own OpenAPI allows, and what it forbids?"""

from __future__ import annotations

import json
import os

import pytest

from tests.engine_server import ADMIN_TOKEN, ENGINE_MARKS, EngineServer
from tests.fuzz.campaign import Campaign
from tests.fuzz.leaks import leaks
from tests.fuzz.openapi import shots
from tests.fuzz.shoot import Gun

pytestmark = [*ENGINE_MARKS, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
EXAMPLES = int(os.environ.get("SCORPIO_FUZZ_OPENAPI", "400" if "CI" in os.environ else "300"))


async def test_every_documented_route(engine_server: EngineServer) -> None:
    status, _, raw = engine_server.call("GET", "/openapi.json")  # vLLM takes its time for the first
    assert status == 200
    policy = engine_server.status()["policy"]
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    campaign, gun = Campaign(), Gun(engine_server.url)
    for number, one in enumerate(shots(json.loads(raw), EXAMPLES, headers)):
        campaign.note(number, one, await gun.shoot(one))
    gun.close()
    assert campaign.findings == []
    assert campaign.done >= EXAMPLES
    assert min(campaign.answers.get(status, 0) for status in ("200", "400")) > EXAMPLES / 20
    engine_server.switch(policy)
    assert await leaks(engine_server) == []
