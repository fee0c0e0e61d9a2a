"""Does the policy decide on the canary alone, and how are both sides counted?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scorpio.engine.canary import is_in
from scorpio.ledger.files import read_ledger
from tests.engine.driver import Engine, expected
from tests.engine.test_serving_clock import PROFILE

REQUESTS = 120


def engine_with(share: float, **settings: Any) -> Engine:
    return Engine(
        scorpio={"policy": "scorpio-paper", "canary": share, "latency": PROFILE} | settings,
    )


def test_a_share_is_a_share_and_grows_by_adding() -> None:
    names = [f"cmpl-{number}" for number in range(4000)]
    small, large = ({n for n in names if is_in(n, share)} for share in (0.05, 0.5))
    assert 0.04 < len(small) / len(names) < 0.06
    assert 0.47 < len(large) / len(names) < 0.53
    assert small < large
    assert all(is_in(n, 1.0) and not is_in(n, 0.0) for n in names)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_only_the_canary_is_refused(share: float) -> None:
    """No engine keeps a TTFT of 1 ms: the policy refuses it, stock serves it late."""
    engine = engine_with(share)
    names = [f"r{number}" for number in range(REQUESTS)]
    for number, name in enumerate(names, 1):
        engine.add(name, output=3, slo_ttft_ms=1)
        engine.drain()
        in_canary = is_in(name, share)
        assert engine.tokens(name) == ([] if in_canary else expected(number, 3))
    state, canary = engine.scorpio._state(), sum(is_in(n, share) for n in names)
    of_all = engine.scorpio.telemetry.outcomes.state()["by_class"]["none"]  # type: ignore[index]
    assert of_all["outcomes"]["rejected"] == canary
    if share == 1.0:
        assert "canary" not in state
        return
    arms: Any = state["canary"]
    assert state["canary_share"] == share
    policy = arms["policy"].get("none", {"outcomes": {"rejected": 0}})
    assert policy["outcomes"]["rejected"] == canary
    stock = arms["stock"]["none"]
    assert stock["outcomes"] == {
        "finished": REQUESTS - canary,
        **dict.fromkeys(set(stock["outcomes"]) - {"finished"}, 0),
    }
    # late by what their clients asked for, although the policy was shown no SLO
    assert stock["violations"]["ttft"] == REQUESTS - canary
    assert stock["good"] == 0
    engine.assert_drained()


def test_parts_of_one_request_are_on_one_side() -> None:
    engine = engine_with(0.5)
    for number in range(40):
        for part in range(3):
            engine.add(f"{part}_q{number}", output=2, slo_ttft_ms=1)
        engine.drain()
        answered = {bool(engine.tokens(f"{part}_q{number}")) for part in range(3)}
        assert answered == {not is_in(f"q{number}", 0.5)}


def test_the_ledger_has_what_the_client_asked_for(tmp_path: Path) -> None:
    engine = engine_with(0.0, run_dir=str(tmp_path))
    engine.add("a", output=3, slo_ttft_ms=70, slo_tpot_ms=9, slo_on_miss="degrade")
    engine.drain()
    engine.scheduler.shutdown()
    (entry,) = read_ledger(tmp_path).entries
    assert (entry.slo_ttft_ms, entry.slo_tpot_ms, entry.on_miss) == (70.0, 9.0, "degrade")
    assert entry.missed == ("tpot",)
