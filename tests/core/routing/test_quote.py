"""What is quoted, and how is an interval learned? By hand."""

from __future__ import annotations

import math
from random import Random

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.routing.load import DUE_S, Replica, ReplicaLoad, RoutedRequest
from scorpio.core.routing.quote import HELD, Quote, Quotes, Span
from scorpio.core.slo import Slo

STEP = StepModel(0.01, 1e-3, 1e-3, 1.0, 0.0, 0.0, 0.0)  # 10 ms, and 1 ms for each token
NONE = (0,) * len(DUE_S)


def quotes(load: ReplicaLoad | None = None, seats: int = 8) -> Quotes:
    made = Quotes()
    row = made.add(Replica(STEP, 1000, seats, 10_000))
    if load is not None:
        made.report(row, load)
    return made


def ahead(bucket: int, tokens: int, **more: object) -> ReplicaLoad:
    prefill = [0] * len(DUE_S)
    prefill[bucket] = tokens
    return ReplicaLoad(1.0, prefill_tokens=tuple(prefill), **more)  # type: ignore[arg-type]


def middle_s(quote: Quote | None) -> float:
    """What was forecast: intervals are 0.25 to 2 times that at first."""
    assert quote is not None
    assert quote.ttft.high_s == pytest.approx(8 * quote.ttft.low_s)
    return quote.ttft.high_s / 2


def spans(found: Span, low_s: float, high_s: float) -> bool:
    return (found.low_s, found.high_s) == pytest.approx((low_s, high_s))


def test_an_idle_engine_takes_as_long_as_the_prompt() -> None:
    found = quotes().quote(100, 10, 1.0)
    assert found is not None
    # a step of its own decode is 11 ms of one of 1.01 s, which is as long as steps may be
    assert middle_s(found) == pytest.approx(0.011 + 0.1 / (1 - 0.011 / 1.01))
    assert spans(found.tpot, 0.011, 1.01)
    assert found.samples == 0


def test_only_what_is_due_before_it_comes_first() -> None:
    nothing = middle_s(quotes().quote(100, 10, 1.0))
    late = quotes(ahead(int(DUE_S.searchsorted(0.5)), 500, waiting=1))
    assert middle_s(late.quote(100, 10, 1.0)) == pytest.approx(nothing)
    soon = quotes(ahead(0, 500, waiting=1))
    assert middle_s(soon.quote(100, 10, 1.0)) == pytest.approx(nothing + 0.5 / (1 - 0.011 / 1.01))


def test_a_tight_batch_leaves_less_of_a_step() -> None:
    tight = quotes(ahead(0, 0, running=1, batch=((0.05, 1),)))
    found = tight.quote(100, 10, 1.0)
    assert found is not None
    assert middle_s(found) == pytest.approx(0.012 + 0.1 / (1 - 0.012 / 0.05))
    assert spans(found.tpot, 0.012, 0.05)


def test_without_a_seat_there_is_no_quote() -> None:
    assert quotes(ahead(0, 0, running=8)).quote(1, 1, 1.0) is None
    assert Quotes().quote(1, 1, 1.0) is None  # no engine at all


def test_what_was_sent_counts_until_the_engine_tells() -> None:
    made, load = quotes(ahead(0, 0)), ahead(0, 0)
    before = middle_s(made.quote(100, 10, 1.0))
    made.sent(0, RoutedRequest(1, 2.0, 1000, Slo(0.2)), 2.0)
    assert middle_s(made.quote(100, 10, 2.0)) > before + 0.9
    made.report(0, load)  # the old report again
    assert middle_s(made.quote(100, 10, 2.0)) > before + 0.9
    made.report(0, ReplicaLoad(3.0))
    assert middle_s(made.quote(100, 10, 3.0)) == pytest.approx(before)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("spread", [0.1, 0.8])
def test_in_the_long_run_nine_of_ten_hold(scale: float, spread: float) -> None:
    made, rng, held, total = quotes(), Random(7), 0, 0
    for number in range(4000):
        quote = made.quote(100, 10, 1.0)
        assert quote is not None
        took_s = 0.1 * scale * math.exp(rng.gauss(0.0, spread))
        if number >= 1000:
            held += quote.ttft.low_s <= took_s <= quote.ttft.high_s
            total += 1
        made.came(quote, took_s)
    assert held / total >= HELD


def test_a_clock_that_is_set_back_leaves_no_old_load() -> None:
    made = quotes(ReplicaLoad(9000.0, waiting=1))
    nothing = middle_s(quotes().quote(100, 10, 10.0))
    for _ in range(5):
        made.sent(0, RoutedRequest(0, 9000.1, 500, Slo(0.01)), 9000.1)
    assert middle_s(made.quote(100, 10, 9000.2)) > nothing + 1.0
    made.report(0, ReplicaLoad(10.0))
    assert middle_s(made.quote(100, 10, 10.1)) == pytest.approx(nothing)


def test_each_size_of_prompt_has_its_own_interval() -> None:
    made = quotes()
    before = made.quote(100, 10, 1.0)
    for _ in range(50):
        long = made.quote(5000, 10, 1.0)
        assert long is not None
        made.came(long, math.inf)  # refused
    assert made.quote(100, 10, 1.0) == before
    wide = made.quote(5000, 10, 1.0)
    assert wide is not None
    assert wide.samples == 50
    assert wide.ttft.high_s > 20 * wide.ttft.low_s
    assert math.isfinite(wide.ttft.high_s)
