"""How much KV does a request hold where layers differ?"""

from __future__ import annotations

import numpy as np
import pytest

from scorpio.core.kv_forecast import MOMENTS, KvForecast
from scorpio.core.kv_need import FULL_ATTENTION, KvGroup, KvNeed
from scorpio.core.snapshot import EngineLimits

# Blocks of 100 tokens, one of which the pool counts as 80: attention, a state, a window of 3.
MIXED = KvNeed((KvGroup(100), KvGroup(100, 1), KvGroup(100, 3)), 8000, 100)


def test_with_full_attention_a_token_takes_its_place() -> None:
    assert FULL_ATTENTION.of(123.0) == 123.0
    column = np.array([1.0, 7.0])
    assert FULL_ATTENTION.of(column) is column
    assert FULL_ATTENTION.grows(column, column) is column


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 3), (100, 3), (101, 5), (1000, 14)])
def test_whole_blocks_of_each_group(tokens: float, blocks: int) -> None:
    assert MIXED.of(float(tokens)) == blocks * 80
    assert MIXED.of(np.array([float(tokens)])).tolist() == [blocks * 80]


def test_growth_is_of_groups_that_grow() -> None:
    grown = MIXED.grows(np.array([1000.0, 50.0]), np.array([100.0, 50.0]))
    assert grown.tolist() == [80.0, 0.0]


def test_what_fills_the_pool_never_fits() -> None:
    limits = EngineLimits(8, 256, 8000, 100, 16_384, kv_need=MIXED)
    assert not limits.never_fits(9599.0)  # 96 blocks, a state and a window of three
    assert limits.never_fits(9600.0)
    plain = EngineLimits(8, 256, 8000, 16, 16_384)
    assert not plain.never_fits(7999.0)
    assert plain.never_fits(8000.0)


def test_a_state_does_not_grow_with_the_answer() -> None:
    """One that surely runs for 200 more steps, from 1000 tokens on."""
    alive = (MOMENTS <= 200).astype(np.float64)[None, :]
    forecast = KvForecast(np.array([1000.0]), alive, 0.0, MIXED)
    last = MOMENTS[MOMENTS <= 200].max()
    assert forecast.peak_tokens() == MIXED.of(1000.0 + float(last))
    twice = forecast.peak_with(1000.0, alive[0])
    forecast.add(1000.0, alive[0])
    assert forecast.peak_tokens() == twice == 2 * MIXED.of(1000.0 + float(last))
