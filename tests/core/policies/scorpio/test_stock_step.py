"""When is a stock step as good as a planned one? Each condition with the number where it ends."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.step_decodes import step_decodes
from scorpio.core.policies.scorpio.stock_step import StockStep, light_step, stock_step
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, running_batch
from tests.core.policies.scorpio.step_scenes import step_of

# 10 ms a step, 1 ms a token, 10 ms for 1,000 tokens of context; attention costs nothing.
MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 1e-5)
START_S = 100.0
MEAN = 40.0


def decode(slot: int, tpot_s: float = 1.0, output: int = 50) -> Row:
    """Whose tokens came in time so far: 100 tokens in KV."""
    view = RequestView(f"r{slot}", slot, START_S - 1.0, 100 - output, 200, Slo(5.0, tpot_s))
    return Row(view, slot, False, 100, 100, output)


def ask(seq: int = 9, tokens: int = 50, cached: int = 0, ttft_s: float = 10.0,
        tpot_s: float = 1.0, on_miss: OnMiss = OnMiss.REJECT) -> RequestView:  # fmt: skip
    slo = Slo(ttft_s, tpot_s, on_miss=on_miss)
    return RequestView(f"w{seq}", seq, START_S, tokens, 40, slo, cached_tokens=cached)


def step(
    rows: tuple[Row, ...],
    waiting: tuple[RequestView, ...],
    share: float = 0.8,
    debt: float = 0.3,
    prefill_share: float = 0.0,
    mean: float = MEAN,
    **limits: Any,
) -> StockStep | None:
    table = WaitingTable()
    for view in waiting:
        table.add(view, view.deadline_s)
    engine = EngineLimits(**{"max_num_seqs": 64, "token_budget": 256, "kv_tokens": 8000,
                             "block_tokens": 16, "max_model_len": 4096} | limits)  # fmt: skip
    seen = Snapshot(running_batch(rows), table, engine, 8000)
    options = ScorpioOptions(light_share=share, light_debt=debt)
    return light_step(
        step_of(MODEL, seen, START_S, mean, options=options, prefill_share=prefill_share)
    )


def test_the_budget_bounds_a_step_and_more_of_them_are_needed() -> None:
    seen = Snapshot(running_batch((decode(0), decode(1))), WaitingTable(),
                    EngineLimits(8, 256, 8000, 16, 4096), 8000)  # fmt: skip
    decodes = step_decodes(MODEL, seen, START_S)
    assert decodes.alone_s == pytest.approx(0.014)
    assert stock_step(MODEL, decodes, 50, 0.0, 256) == pytest.approx((0.064, 0.064))
    # 300 tokens by 200: one and a half steps, so 0.2 s in the first, and decodes in both.
    assert stock_step(MODEL, decodes, 300, 0.0, 200) == pytest.approx((0.214, 0.328))


def test_an_easy_load_is_left_to_stock() -> None:
    found = step((decode(0),), (ask(),))
    assert found is not None
    assert found.all_s == pytest.approx(0.062)


def test_without_a_share_there_are_no_stock_steps() -> None:
    assert step((), ()) is not None
    assert step((), (), share=0.0) is None


@pytest.mark.parametrize(("count", "light"), [(8, True), (9, False)])
def test_a_queue_is_no_light_load(count: int, light: bool) -> None:
    waiting = tuple(ask(seq, tokens=1) for seq in range(9, 9 + count))
    assert (step((decode(0),), waiting, max_num_seqs=9) is not None) is light


@pytest.mark.parametrize(("tokens", "light"), [(99, True), (100, False)])
def test_all_that_wait_find_kv(tokens: int, light: bool) -> None:
    """Cached tokens are no work, but they need their blocks."""
    waiting = (ask(tokens=tokens, cached=60),)
    assert (step((), waiting, kv_tokens=100) is not None) is light


@pytest.mark.parametrize(
    ("ttft_s", "on_miss", "light"),
    [
        (0.0497, OnMiss.REJECT, True),  # four fifths of 62 ms is 49.6
        (0.0495, OnMiss.REJECT, False),
        (0.0495, OnMiss.WAIT, True),  # it does not want to know
    ],
)
def test_one_that_cannot_be_in_time_would_rather_know(
    ttft_s: float, on_miss: OnMiss, light: bool
) -> None:
    waiting = (ask(ttft_s=ttft_s, on_miss=on_miss),)
    assert (step((decode(0),), waiting, max_num_seqs=9) is not None) is light


# Two members, 150 tokens of context and half of two answers: 12 + 1.5 + 0.4 ms.
GROWN_S = 0.0139


@pytest.mark.parametrize("who", ["runs", "waits"])
@pytest.mark.parametrize(("more_s", "light"), [(1e-6, True), (-1e-6, False)])
def test_the_grown_batch_keeps_its_share_of_the_tightest_target(
    who: str, more_s: float, light: bool
) -> None:
    target_s = GROWN_S / 0.8 + more_s
    rows = (decode(0, target_s if who == "runs" else 1.0),)
    waiting = (ask(tpot_s=target_s if who == "waits" else 1.0),)
    assert (step(rows, waiting, debt=10.0) is not None) is light


def test_cached_tokens_are_context_though_no_work() -> None:
    target_s = GROWN_S / 0.8 + 1e-6
    whole, hit = ask(tokens=50), ask(tokens=50, cached=40)
    assert step((decode(0, target_s),), (whole,), debt=10.0) is not None
    found = step((decode(0, target_s),), (hit,), debt=10.0)
    assert found is not None
    assert found.all_s == pytest.approx(0.022)
    more = ask(tokens=90, cached=80)  # 0.4 ms of context more
    assert step((decode(0, target_s),), (more,), debt=10.0) is None


def debt_of(rows: tuple[Row, ...], **how: Any) -> float:
    """The least debt with which this is a stock step."""
    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        allowed = step(rows, (ask(),), debt=middle, **how) is not None
        low, high = (low, middle) if allowed else (middle, high)
    return high


def test_decodes_may_be_made_late_when_they_will_be_even_before_they_end() -> None:
    """Of one whose next token is due at once."""
    late = decode(0, 0.020 * (1 + 1e-9), 45)  # 45 in 0.9 s
    slack_s = 45 * 0.020 - 0.9
    assert slack_s == pytest.approx(0.0, abs=1e-12)
    # A step of 62 ms over the share; each later token makes up 0.8 x 20 - 13.9 ms.
    tokens = (0.062 / 0.8) / (0.8 * 0.020 - GROWN_S)
    assert debt_of((late,)) == pytest.approx(min(tokens / MEAN, 1.0), rel=1e-3)
    longer = 4 * tokens
    assert debt_of((late,), mean=longer) == pytest.approx(
        (0.062 / 0.8) / (0.8 * 0.020 - 0.0135 - 1e-5 * longer) / longer, rel=1e-3
    )


@pytest.mark.parametrize(("prefill_share", "light"), [(0.52, True), (0.53, False)])
def test_no_debt_is_made_in_times_that_are_not_calm(prefill_share: float, light: bool) -> None:
    late = decode(0, 0.050, 18)  # due at once, 50 ms apart
    found = step((late,), (ask(),), debt=1.0, prefill_share=prefill_share)
    assert (found is not None) is light


def test_a_debt_of_nothing_is_no_debt() -> None:
    assert step((decode(0, math.inf),), (ask(),), debt=0.0, prefill_share=0.9) is not None
