"""Is VBS admission the published inequality, and is its fast screening safe?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.latency import DecodeModel
from scorpio.core.policies.paper.tpot_guard import TpotGuard
from scorpio.core.policies.paper.virtual_batch import BatchClaim

MODEL = DecodeModel(a_s=1e-7, b_s=1e-4, c_s=0.0, d_s=0.012)
GUARD = TpotGuard(MODEL, kappa=1.3, safety=0.99, best_effort_tpot_s=1.0)
slos = st.one_of(st.just(math.inf), st.floats(0.001, 10.0))
sizes = st.integers(1, 100_000)


def test_by_hand() -> None:
    # R: S = 30 and 50 ms, 500 + 700 tokens. r: S = 60 ms, 300 tokens, will produce 200.
    # VBS(R + r) = 1 + 0.6 + 0.5 = 2.1; Lin = 1500 / 3 = 500
    # 0.5 * 1e-7 * 2.1 * (2*500 + 200) + 1e-4 * 2.1 + 12 ms = 12.336 ms; * 1.3 = 16.04 ms
    batch = BatchClaim.of(np.array([0.03, 0.05]), 1200.0)
    assert GUARD.admits(batch.plus(0.06, 300.0), 200.0)  # <= 0.99 * 30 ms
    # A newcomer with S = 16.2 ms sets min S itself: 0.99 * 16.2 = 16.04 ms.
    # VBS = 16.2/30 + 16.2/50 + 1 = 1.864; 0.5*1e-7*1.864*1200 + 0.1864 + 12 = 12.298; * 1.3 = 15.99
    assert GUARD.admits(batch.plus(0.0162, 300.0), 200.0)
    # With S = 16 ms: 0.99 * 16 = 15.84 ms, and the estimate (VBS 1.853) is still 15.99 ms.
    assert not GUARD.admits(batch.plus(0.0160, 300.0), 200.0)


@given(st.lists(slos, min_size=1, max_size=30), st.data())
def test_the_published_inequality(batch: list[float], data: st.DataObject) -> None:
    contexts = [data.draw(sizes) for _ in batch]
    output = data.draw(sizes)
    claim = BatchClaim()
    for slo, context in zip(batch, contexts, strict=True):
        claim = claim.plus(slo, context)
    tightest = min(batch)
    if tightest == math.inf:
        assert GUARD.admits(claim, output)
        return
    vbs = sum(min(tightest / (1.0 if s == math.inf else s), 1.0) for s in batch)
    mean = sum(contexts) / len(contexts)
    estimate = 0.5 * (1e-7 * vbs + 0.0) * (2 * mean + output) + 1e-4 * vbs + 0.012
    margin = 0.99 * tightest - 1.3 * estimate
    if abs(margin) > 1e-9:
        assert GUARD.admits(claim, output) == (margin > 0.0)


@given(slos, sizes, sizes)
def test_infeasible_is_failing_alone(slo: float, prompt: int, output: int) -> None:
    alone = GUARD.admits(BatchClaim().plus(slo, prompt), output)
    (never,) = GUARD.infeasible(np.array([slo]), np.array([1.0 * prompt]), np.array([1.0 * output]))
    if abs(slo - GUARD.feasible_s(prompt, output)) > 1e-9:
        assert never == (not alone)
        assert never == (slo < GUARD.feasible_s(prompt, output))


@given(st.lists(st.tuples(slos, sizes, sizes), min_size=1, max_size=20))
def test_no_request_above_the_screen_is_infeasible(requests: list[tuple[float, int, int]]) -> None:
    slo, prompt, output = (np.array(column, dtype=np.float64) for column in zip(*requests))  # noqa: B905
    screen_s = GUARD.feasible_s(float(prompt.max()), float(output.max()))
    assert not (GUARD.infeasible(slo, prompt, output) & (slo > screen_s + 1e-9)).any()


def test_lost_is_one_step_at_the_present_length() -> None:
    # (1e-4 + 12 ms + 1e-7 * 10,000) * 1.3 = 17.03 ms; 0.99 * 17.3 = 17.13; 0.99 * 17.1 = 16.93
    slo, context = np.array([0.0173, 0.0171, math.inf]), np.array([10_000.0] * 3)
    assert GUARD.lost(slo, context).tolist() == [False, True, False]


@pytest.mark.parametrize("members", [1, 300])
def test_without_any_slo_all_may_join(members: int) -> None:
    assert GUARD.admits(BatchClaim.of(np.full(members, math.inf), 1e9), 1e9)
