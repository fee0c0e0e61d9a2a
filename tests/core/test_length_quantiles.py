"""Do only three ascending numbers count as length quantiles?"""

from __future__ import annotations

import math

import pytest

from scorpio.core.slo import SloError, parse_length_quantiles

KEY = "predicted_output_quantiles"


def test_good_ones() -> None:
    assert parse_length_quantiles({}) == ()
    assert parse_length_quantiles({KEY: [1, 2.5, 2.5]}) == (1.0, 2.5, 2.5)
    assert parse_length_quantiles({KEY: (0, 0, 1e9)}) == (0.0, 0.0, 1e9)


@pytest.mark.parametrize(
    "raw",
    [
        [1, 2],
        [1, 2, 3, 4],
        [3, 2, 1],
        [1, math.nan, 3],
        [1, 2, math.inf],
        [-1, 2, 3],
        [True, 2, 3],
        ["1", 2, 3],
        [1, 2, 10**400],
        [[1], 2, 3],
        "123",
        7,
        {"a": 1},
    ],
)
def test_bad_ones_are_named(raw: object) -> None:
    with pytest.raises(SloError, match=KEY):
        parse_length_quantiles({KEY: raw})
