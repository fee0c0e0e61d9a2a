"""Do TRP and VBS follow the paper's definitions, also one newcomer at a time?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.policies.paper.virtual_batch import BatchClaim, tightest_s, trp

BEST_EFFORT_S = 1.0
slo_lists = st.lists(
    st.one_of(st.just(math.inf), st.floats(1e-6, 86_400.0)), min_size=1, max_size=40
)


def trp_by_definition(slos: list[float]) -> list[float]:
    promised = [s for s in slos if s < math.inf]
    if not promised:
        return [1.0] * len(slos)
    tightest = min(promised)
    return [min(tightest / (s if s < math.inf else BEST_EFFORT_S), 1.0) for s in slos]


def test_by_hand() -> None:
    # min S = 30 ms: shares 1, 30/50 = 0.6, 30/200 = 0.15 and, without SLO, 30/1000 = 0.03
    slos = np.array([0.03, 0.05, 0.2, math.inf])
    assert trp(slos, BEST_EFFORT_S).tolist() == pytest.approx([1.0, 0.6, 0.15, 0.03])
    assert BatchClaim.of(slos, 0.0).vbs(BEST_EFFORT_S) == pytest.approx(1.78)


@pytest.mark.parametrize("slos", [[], [math.inf], [math.inf] * 3])
def test_without_any_slo_everyone_counts_whole(slos: list[float]) -> None:
    column = np.array(slos)
    assert tightest_s(column) == math.inf
    assert trp(column, BEST_EFFORT_S).tolist() == [1.0] * len(slos)
    assert BatchClaim.of(column, 0.0).vbs(BEST_EFFORT_S) == len(slos)


def test_one_request_is_a_batch_of_one() -> None:
    assert trp(np.array([0.05]), BEST_EFFORT_S).tolist() == [1.0]
    assert BatchClaim().plus(0.05, 10.0).vbs(BEST_EFFORT_S) == pytest.approx(1.0)


def test_a_best_effort_share_is_never_more_than_one() -> None:
    # All SLOs are slower than the best-effort TPOT of 1 s.
    assert trp(np.array([5.0, math.inf]), BEST_EFFORT_S).tolist() == [1.0, 1.0]
    assert BatchClaim.of(np.array([5.0, math.inf]), 0.0).vbs(BEST_EFFORT_S) == pytest.approx(2.0)


@given(slo_lists)
def test_trp_is_its_definition(slos: list[float]) -> None:
    shares = trp(np.array(slos), BEST_EFFORT_S)
    assert shares.tolist() == pytest.approx(trp_by_definition(slos))
    assert (shares > 0.0).all()
    assert shares.max() == 1.0


@given(slo_lists, st.integers(0, 40))
def test_vbs_one_by_one_is_the_sum_of_trp(slos: list[float], split: int) -> None:
    first, rest = slos[:split], slos[split:]
    claim = BatchClaim.of(np.array(first), 100.0 * len(first))
    for slo in rest:
        claim = claim.plus(slo, 100.0)
    assert claim.vbs(BEST_EFFORT_S) == pytest.approx(sum(trp_by_definition(slos)))
    assert claim.members == len(slos)
    assert claim.context_tokens == 100.0 * len(slos)
    assert claim.tightest_s == min(slos)


def test_the_share_of_one_member_is_its_trp() -> None:
    slos = np.array([0.03, 0.05, math.inf])
    claim = BatchClaim.of(slos, 0.0)
    shares = [claim.share(slo, 1.0) for slo in slos.tolist()]
    np.testing.assert_allclose(shares, trp(slos, 1.0))
    assert BatchClaim.of(np.array([math.inf]), 0.0).share(math.inf, 1.0) == 1.0
