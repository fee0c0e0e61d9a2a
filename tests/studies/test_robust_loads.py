"""Do the hostile loads hold what their names say?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from scorpio.studies.robustness.loads import (
    ATTACKER,
    FLOOD_FACTOR,
    FLOOD_LENGTH_S,
    FLOOD_S,
    LOADS,
    MAD,
    MAD_FACTOR,
)
from scorpio.studies.robustness.scenes import PARTS
from workloads.load import LoadKey

KEY = LoadKey("gamma-cv5", "0:600", "six", 1.2, 1)


@pytest.mark.parametrize("name", LOADS)
def test_requests_are_numbered_in_order_of_time_and_repeatable(name: str) -> None:
    requests = LOADS[name](KEY)
    assert [r.index for r in requests] == list(range(len(requests)))
    assert all(a.send_s <= b.send_s for a, b in pairwise(requests))
    assert LOADS[name](KEY) == requests


def test_a_flood_is_ten_times_the_load_while_it_lasts() -> None:
    requests, calm = LOADS["flood"](KEY), KEY.requests()
    extra = [r.send_s for r in requests if r.tenant == "flood"]
    rate_rps = len(calm) / calm[-1].send_s
    assert len(extra) == pytest.approx((FLOOD_FACTOR - 1) * rate_rps * FLOOD_LENGTH_S, abs=1)
    assert min(extra) >= FLOOD_S
    assert max(extra) < FLOOD_S + FLOOD_LENGTH_S


def test_only_the_mad_tenant_sends_more() -> None:
    sizes = {
        name: {t: sum(r.tenant == t for r in LOADS[name](KEY)) for t in ("t0", "t1")}
        for name in ("tenant absent", "tenant x1", "tenant x10")
    }
    assert [sizes[name]["t1"] for name in sizes] == [120, 120, 120]
    assert [sizes[name][MAD] for name in sizes] == [0, 120, 120 * MAD_FACTOR]


def test_an_attacker_adds_a_tenth_with_its_own_target() -> None:
    hostile = [r for r in LOADS["attacker, 1 ms"](KEY) if r.tenant == ATTACKER]
    assert len(hostile) == 60
    assert {r.tpot_slo_s for r in hostile} == {0.001}


def test_bursts_keep_the_mean_rate() -> None:
    calm, wild = KEY.requests(), LOADS["gamma, CV 10"](KEY)
    assert wild[-1].send_s == pytest.approx(calm[-1].send_s)
    gaps_s = np.diff([r.send_s for r in wild])
    assert gaps_s.std() / gaps_s.mean() > 5.0


def test_every_scene_names_a_load() -> None:
    assert {scene.load for _, scenes in PARTS.values() for scene in scenes} <= set(LOADS)
