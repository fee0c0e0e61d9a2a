"""Does the rehearsal run, and do the alerts that one scrape can decide fire? On the real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio.studies.results import Header
from tests.rehearsal.run import markdown, rehearse
from tests.rehearsal.scene import rules

AT_ONCE = {
    "ScorpioPolicyOffByHand",
    "ScorpioConfigNotTaken",
    "ScorpioProfileAlarm",
    "ScorpioClassBudgetBurnsFast",
    "ScorpioBreakerOpen",
    "ScorpioEngineStalled",
}


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_every_scene_shows_what_it_should(tmp_path: Path) -> None:
    found = rehearse(tmp_path, lambda line: None, load_s=6.0)
    fired = {one.alert: one.fired for one in found if one.alert}
    assert {name for name, active in fired.items() if active == "yes"} == AT_ONCE
    assert set(fired) <= set(rules())
    page = markdown(found, Header("c", "d", "m", "x"))
    for one in found:
        assert one.seen
        assert f"## {one.title}\n" in page
