"""Does a bucket give its rate, and no more? By hand, and for any order of charges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.token_bucket import TokenBucket

SECONDS = st.floats(0.0, 100.0)
TOKENS = st.floats(0.0, 500.0)


def test_it_begins_full_and_fills_at_its_rate() -> None:
    bucket = TokenBucket(10.0, 100.0, at_s=5.0)
    assert bucket.tokens(5.0) == 100.0
    bucket.charge(130.0, 5.0)
    assert bucket.tokens(5.0) == -30.0
    assert bucket.wait_s(5.0) == pytest.approx(3.1)  # to one token
    assert bucket.tokens(7.0) == pytest.approx(-10.0)
    assert bucket.wait_s(8.1) == pytest.approx(0.0)
    assert bucket.tokens(1000.0) == 100.0  # never more than the burst


def test_what_is_given_back_is_there_again_but_never_beyond_the_burst() -> None:
    bucket = TokenBucket(10.0, 100.0, at_s=0.0)
    bucket.charge(50.0, 0.0)
    bucket.charge(-20.0, 0.0)
    assert bucket.tokens(0.0) == 70.0
    bucket.charge(-500.0, 0.0)
    assert bucket.tokens(0.0) == 100.0


def test_another_rate_forgets_nothing_that_was_used() -> None:
    bucket = TokenBucket(10.0, 100.0, at_s=0.0)
    bucket.charge(150.0, 0.0)
    bucket.retune(100.0, 20.0, 1.0)
    assert bucket.tokens(1.0) == -40.0
    assert bucket.tokens(1.5) == pytest.approx(10.0)
    assert bucket.tokens(9.0) == 20.0


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(10.0, 100.0, at_s=10.0)
    bucket.charge(100.0, 10.0)
    assert bucket.tokens(3.0) == 0.0
    bucket.charge(1.0, 3.0)
    assert bucket.tokens(10.0) == -1.0


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 10.0), (-1.0, 10.0), (1.0, 0.5), (1.0, 0.0)])
def test_a_bucket_that_lets_none_in_is_an_error(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="bucket"):
        TokenBucket(rate, burst, 0.0)
    with pytest.raises(ValueError, match="bucket"):
        TokenBucket(1.0, 10.0, 0.0).retune(rate, burst, 0.0)


@given(
    st.floats(0.1, 50.0),
    st.floats(1.0, 300.0),
    st.lists(st.tuples(SECONDS, TOKENS), min_size=1, max_size=60),
)
def test_over_any_time_it_gives_burst_and_rate_and_one_last_request(
    rate: float, burst: float, asked: list[tuple[float, float]]
) -> None:
    """Each request is let in or not, and pays when it is. From any moment on."""
    bucket = TokenBucket(rate, burst, 0.0)
    now_s, paid = 0.0, []
    for pause_s, tokens in asked:
        now_s += pause_s
        if bucket.wait_s(now_s) == 0.0:
            bucket.charge(tokens, now_s)
            paid.append((now_s, tokens))
        assert bucket.tokens(now_s) <= burst
    for first in range(len(paid)):
        for last in range(first, len(paid)):
            before_last = sum(tokens for _, tokens in paid[first:last])
            seconds = paid[last][0] - paid[first][0]
            assert before_last <= burst + rate * seconds + 1e-6


@given(st.floats(0.1, 50.0), st.floats(1.0, 300.0), TOKENS)
def test_the_time_that_is_told_is_when_it_opens(rate: float, burst: float, used: float) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    bucket.charge(used, 0.0)
    wait_s = bucket.wait_s(0.0)
    assert bucket.wait_s(wait_s + 1e-6) == 0.0
    if wait_s > 1e-3:
        assert bucket.wait_s(wait_s - 1e-3) > 0.0
