"""Is the traffic behind days what a trace or a file says, with pauses and of little load?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scorpio.core.arrays import FloatArray
from scorpio.studies.autoscale_days import Goal, Scene
from scorpio.studies.autoscale_twin import LEAD_TICKS, CurvePoint
from scorpio.studies.days import TICK_S, DaysKey, _rates_of
from scorpio.twin.fleet.coarse import Curve
from scorpio.twin.fleet.scalers import promises
from workloads.mixes import get_mix
from workloads.request import WorkloadRequest, with_mix
from workloads.traces.row import TraceRow

CURVE = Curve((1,), np.array([0.0, 1.0]), np.ones((1, 2)), np.ones((1, 2)))


@pytest.mark.parametrize("ticks", [2, 12, 30, 31, 32])
def test_few_minutes_of_load_are_enough(ticks: int) -> None:
    goal = Goal()
    scene = Scene(np.full(ticks, 0.5), np.ones(ticks), CURVE, goal)
    run = scene.run(promises(goal.options(), CURVE))
    assert len(run.kept) == ticks
    assert scene.score(run, slice(None))["kept"] == 1.0


def sent(times: FloatArray) -> list[WorkloadRequest]:
    rows = [TraceRow(float(t), 10, 10, (), {}, "") for t in times]
    return with_mix(rows, get_mix("product"), 0)


def test_a_pause_does_not_make_gaps_uneven() -> None:
    """Ten minutes of even gaps, an hour of nothing, and ten minutes again."""
    even = np.arange(0.0, 600.0, 0.5)
    rates = _rates_of("t", sent(np.concatenate([even, even + 4200.0, [4800.0]])))
    full = rates.rate_rps[0] > 0.0
    assert full.sum() < 25
    assert rates.gap_cv[0][full].max() < 0.1
    assert (rates.gap_cv[0][~full] == 1.0).all()


def test_few_requests_or_all_at_once_say_nothing_of_gaps() -> None:
    few = _rates_of("t", sent(np.array([0.0, 1.0, 2.0, 50.0, 60.0, 190.0])))
    assert (few.gap_cv == 1.0).all()
    at_once = _rates_of("t", sent(np.array([0.0] * 20 + [130.0])))
    assert np.isfinite(at_once.gap_cv).all()


def test_a_point_of_rare_large_requests_lasts_until_one_counts(tmp_path: Path) -> None:
    file, tokens = tmp_path / "rates.csv", tmp_path / "tokens.json"
    file.write_text("client,window_start_s,rate_rps,gap_cv\na,0,1,30\na,600,2,30\n")
    tokens.write_text('{"clients": {"a": {"input": [4000, 4000], "output": [4000, 4000]}}}')
    key = DaysKey(str(file), str(tokens), "product", "a100-llama-3.1-8b")
    requests, end_s = CurvePoint(key, 1, 0.5)._drawn(key.days(), LEAD_TICKS * TICK_S)
    assert requests[-1].send_s >= LEAD_TICKS * TICK_S
    assert end_s > 6 * TICK_S
