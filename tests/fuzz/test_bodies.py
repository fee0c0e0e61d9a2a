"""Does the real server stand whatever clients send? More by hand: make fuzz ARGS=bodies."""

from __future__ import annotations

import os

import pytest

from tests.engine_server import ENGINE_MARKS, EngineServer
from tests.fuzz.bodies import CANARY, Shot, shot
from tests.fuzz.campaign import Campaign, run_campaign
from tests.fuzz.leaks import leaks
from tests.fuzz.shoot import Hit

BODIES = int(os.environ.get("SCORPIO_FUZZ_BODIES", "100000" if "CI" in os.environ else "2000"))


def test_a_shot_is_a_function_of_its_number() -> None:
    shots = [shot(1, number) for number in range(300)]
    assert shots == [shot(1, number) for number in range(300)]
    assert shots != [shot(2, number) for number in range(300)]
    assert sum(CANARY.encode() in one.body for one in shots) > 50


def test_faults_are_told_apart() -> None:
    campaign = Campaign()
    for number, hit in enumerate([Hit(200, 0.1), Hit(400, 6.0), Hit(500, 0.1, "x 17"),
                                  Hit(500, 0.1, "x 18"), Hit(0, 60.0, "hung")]):  # fmt: skip
        campaign.note(number, Shot("/v1/completions", {}, b"{}"), hit)
    assert campaign.answers == {"200": 1, "400": 1, "500": 2, "0": 1}
    assert [number for number, _, _ in campaign.findings] == [2, 4]
    assert (campaign.late, campaign.done) == (2, 5)


class TestOnTheEngine:
    """One portion."""

    pytestmark = ENGINE_MARKS

    @pytest.mark.timeout(2400)
    async def test_bodies(self, engine_server: EngineServer) -> None:
        campaign = Campaign()
        await run_campaign(campaign, engine_server.url, BODIES, lambda now: None)
        assert campaign.findings == []
        assert campaign.answers["200"] > BODIES / 20
        assert campaign.answers["400"] > BODIES / 20
        assert await leaks(engine_server) == []
