"""Is each class kept as often as its target says, over the last minutes and hour?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.server.state.budgets import Counted, burn
from scorpio.server.state.history import History, counted_of
from scorpio.server.state.merged_status import merged
from tests.server.keyed import Keyed

TARGETS = "[classes.chat]\nttft_ms = 500\ntarget = 0.9\n[classes.free]\n"


def counted(by_class: object) -> Counted:
    """Of the class `chat`, out of an engine's status."""
    history = History(lambda: [{"by_class": by_class}])
    history.take()
    found = history.windows("chat")["all"]
    return Counted(found["good"], counted_of(found))


@pytest.mark.parametrize(
    ("good", "total", "rate"), [(9, 10, 1.0), (10, 10, 0.0), (0, 10, 10.0), (0, 0, 0.0)]
)
def test_burn(good: int, total: int, rate: float) -> None:
    assert burn(Counted(good, total), 0.9) == pytest.approx(rate)


def test_what_counts() -> None:
    entry = {"good": 7, "outcomes": {"finished": 8, "rejected": 2, "failed": 1, "aborted": 50}}
    assert counted({"chat": entry}) == Counted(7, 11)
    odds: list[object] = [None, 5, [], {"chat": None}, {"chat": {"good": "7", "outcomes": [1]}}]
    for odd in odds:
        assert counted(odd).all == 0


async def test_it_is_in_the_status_and_in_the_metrics(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, TARGETS)
    before = {"good": 5, "outcomes": {"finished": 50, "rejected": 0}}
    entry = {"good": 12, "outcomes": {"finished": 58, "rejected": 2}}
    for at_s, told in enumerate((before, entry)):
        channel.write_status(keyed.run_dir, {"by_class": {"chat": told, "free": told}})
        keyed.context.history.now_s = lambda at_s=at_s: float(at_s)
        keyed.context.history.take()
    budgets: Any = (await keyed.call("GET", "/scorpio/status")).json()["error_budgets"]
    lately = {"good": 7, "all": 10, "attainment": 0.7, "burn": 3.0}
    assert budgets == {"chat": {"target": 0.9, "5m": lately, "1h": lately}}
    page = (await keyed.call("GET", "/metrics")).body.decode()
    for series in (
        'scorpio_good_requests_total{engine="0",model_name="tiny",slo_class="chat"} 12.0',
        'scorpio_good_requests_total{engine="0",model_name="tiny",slo_class="none"} 0.0',
        'scorpio_slo_target_ratio{engine="0",model_name="tiny",slo_class="chat"} 0.9',
        'scorpio_error_budget_burn_ratio{engine="0",model_name="tiny",slo_class="chat",'
        'window="1h"} 3.0',
    ):
        assert series in page
    assert 'scorpio_slo_target_ratio{engine="0",model_name="tiny",slo_class="free"}' not in page


def test_of_several_replicas_the_worst_counts() -> None:
    one = {"chat": {"target": 0.9, "5m": {"good": 1, "all": 2, "attainment": 0.5, "burn": 5.0}}}
    two = {"chat": {"target": 0.9, "5m": {"good": 3, "all": 3, "attainment": 1.0, "burn": 0.0}}}
    together = {"good": 4, "all": 5, "attainment": 0.5, "burn": 5.0}
    assert merged([one, two]) == {"chat": {"target": 0.9, "5m": together}}
