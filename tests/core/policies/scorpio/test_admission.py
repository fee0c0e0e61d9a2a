"""Who may join a batch? Room, KV, adapters and TPOT targets, each with the number where it ends."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.admission import Admission, wasteful
from scorpio.core.policies.scorpio.step_decodes import tightest_target_s
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, running_batch
from tests.core.policies.scorpio.step_scenes import step_of

# 10 ms, 1 ms a sequence, 10 ms for 1,000 tokens of context.
MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 1e-5)
START_S = 100.0
NOTHING = Snapshot(running_batch(()), WaitingTable(), EngineLimits(8, 256, 8000, 16, 4096), 8000)


def ask(
    name: str = "new", tokens: int = 100, tpot_s: float = math.inf, **facts: Any
) -> RequestView:
    facts = {"max_tokens": 100, "predicted_output_tokens": 100.0} | facts
    ttft_s = facts.pop("ttft_s", 10.0)
    return RequestView(name, 9, START_S - 1.0, tokens, slo=Slo(ttft_s, tpot_s), **facts)


def decode(slot: int, context: int = 100, ttft_s: float = 10.0, adapter: int = 0) -> Row:
    """Of the batch; its first token came in time. An answer of `context` tokens in KV."""
    slo = Slo(ttft_s)
    view = RequestView(f"r{slot}", slot, START_S - 2.0, 50, 200, slo, adapter=adapter)
    return Row(view, slot, False, context, context, 2)


def growing(
    rows: tuple[Row, ...] = (decode(0),),
    tightest_s: float = 1.0,
    seats: int = 8,
    kv_free: int = 1000,
    kv_tokens: int = 8000,
    adapters: int = 0,
    promised: bool = True,
    least_target_s: float = 0.0,
    prefill_share: float = 0.0,
) -> Admission:
    limits = EngineLimits(seats, 256, kv_tokens, 16, 4096, adapters)
    scene = Snapshot(running_batch(rows), WaitingTable(), limits, kv_free)
    return Admission(
        step_of(
            MODEL, scene, START_S, 40.0, tightest_s, least_target_s=least_target_s,
            promised=promised, prefill_share=prefill_share,
        )
    )  # fmt: skip


def test_a_target_that_cannot_be_kept_alone_binds_no_other() -> None:
    alone_s = 0.011 + 0.01  # one sequence of 1,000 tokens
    contexts = np.array([1000, 1000])
    assert tightest_target_s(MODEL, contexts, np.array([alone_s + 1e-9, 0.5])) == pytest.approx(
        alone_s
    )
    assert tightest_target_s(MODEL, contexts, np.array([alone_s - 1e-9, 0.5])) == 0.5
    assert tightest_target_s(MODEL, np.array([], dtype=np.int64), np.array([])) == math.inf


@pytest.mark.parametrize(
    ("least_target_s", "target_s", "tightest_s", "waste"),
    [
        (0.052, 0.050, 0.1, True),
        (0.050, 0.050, 0.1, False),  # that one is still let in
        (0.052, 0.050, 0.05, False),  # the batch keeps this target anyway
    ],
)
def test_a_target_for_which_most_steps_would_be_overhead(
    least_target_s: float, target_s: float, tightest_s: float, waste: bool
) -> None:
    step = step_of(MODEL, NOTHING, START_S, least_target_s=least_target_s)
    assert wasteful(step, target_s, tightest_s) is waste


def test_all_seats_are_given() -> None:
    batch = growing(seats=3)
    for name in ("a", "b"):
        assert not batch.full
        assert batch.takes(ask(name))
        batch.join(ask(name))
    assert batch.full
    assert batch.takes(ask("c")) is False


def test_kv_is_free_until_those_that_join_have_taken_it() -> None:
    batch = growing(kv_free=250)
    assert not batch.kv.lacks(ask(tokens=249))
    assert batch.kv.lacks(ask(tokens=250))
    assert not batch.kv.lacks(ask(tokens=250, cached_tokens=200, held_tokens=1))
    # Blocks that another one holds are not taken a second time.
    batch.join(ask(tokens=150, cached_tokens=64, held_tokens=50))
    assert not batch.kv.lacks(ask(tokens=149))
    assert batch.kv.lacks(ask(tokens=150))


def test_unfinished_prefills_need_their_kv_first() -> None:
    view = ask("half", tokens=300)
    batch = growing((Row(view, 0, False, 100, 300, 0),), kv_free=500)
    assert batch.kv.lacks(ask(tokens=300))
    assert not batch.kv.lacks(ask(tokens=299))


def test_kv_is_kept_for_one_that_comes_first_until_it_has_joined() -> None:
    batch, first = growing(kv_free=1000), ask("first", tokens=600)
    batch.keep_for(first)
    batch.keep_for(ask("second", tokens=900))  # one at a time
    assert batch.kv.lacks(ask(tokens=400))
    assert not batch.kv.lacks(ask(tokens=399))
    assert not batch.kv.lacks(first)
    batch.join(first)
    assert not batch.kv.lacks(ask(tokens=399))
    assert batch.kv.lacks(ask(tokens=400))
    batch.join(ask(tokens=100))
    assert not batch.kv.lacks(ask(tokens=299))


def test_adapters_in_use_get_out_of_use_for_the_one_that_comes_first() -> None:
    batch = growing((decode(0, adapter=1),), adapters=1)
    assert batch.takes(ask(adapter=1))
    assert not batch.takes(ask(adapter=2))
    batch.keep_for(ask("first", adapter=2))
    assert not batch.takes(ask(adapter=1))  # or adapter 1 would be in use for ever
    assert batch.takes(ask())


def test_an_adapter_that_finds_its_place_keeps_no_others_out() -> None:
    batch = growing((decode(0, adapter=1),), adapters=2)
    batch.keep_for(ask("first", adapter=2))
    assert batch.takes(ask(adapter=1))


def test_its_own_target_is_kept_beside_those_that_are_in() -> None:
    # Two sequences; 100 tokens of context, its prompt of 100 and half of its answer of 100.
    step_s = 0.012 + 250 * 1e-5
    batch = growing()
    assert batch.keeps_target(ask(tpot_s=step_s + 1e-9))
    assert not batch.keeps_target(ask(tpot_s=step_s - 1e-9))
    assert not batch.takes(ask(tpot_s=step_s - 1e-9))
    assert batch.takes(ask(tpot_s=step_s - 1e-9), bound=False)


def test_an_answer_of_unknown_length_is_as_long_as_others() -> None:
    for most, length in ((1000, 40.0), (20, 20.0)):  # or as long as it may be
        step_s = 0.012 + (200 + length / 2) * 1e-5
        for told in (math.nan, math.inf):
            view = ask(max_tokens=most, predicted_output_tokens=told, tpot_s=step_s + 1e-9)
            assert growing().keeps_target(view)
            assert not growing().keeps_target(replace(view, slo=Slo(10.0, step_s - 1e-9)))


def test_an_empty_batch_takes_any() -> None:
    batch = growing((), seats=1)
    hopeless = ask(tokens=10_000, tpot_s=1e-6, adapter=3)
    assert batch.keeps_target(hopeless) is True
    assert batch.takes(hopeless) is True


def test_a_target_that_wastes_the_engine_does_not_join() -> None:
    assert growing(least_target_s=0.052).keeps_target(ask(tpot_s=0.053))
    assert not growing(least_target_s=0.052).keeps_target(ask(tpot_s=0.051))


def test_the_tightest_target_of_those_that_join_is_the_batchs() -> None:
    def told_s(prefill_share: float) -> float:
        batch = growing(prefill_share=prefill_share)
        batch.join(ask(tpot_s=0.05))
        return batch.tpot_s()

    step_s = 0.012 + 200 * 1e-5
    assert told_s(0.0) == pytest.approx(step_s)
    assert told_s(0.5) == pytest.approx(2 * step_s)
    assert told_s(0.9) == 0.05  # prefill takes no more than this target leaves


@pytest.mark.parametrize(
    ("view", "bound"),
    [
        (ask(tpot_s=0.02), False),  # let in without it
        (ask(tpot_s=0.011), True),  # not even alone
        (ask(tpot_s=0.02, ttft_s=0.5), True),  # its first token is late already
    ],
)
def test_a_target_that_is_never_kept_binds_no_other(view: RequestView, bound: bool) -> None:
    batch = growing(prefill_share=0.99)
    batch.join(view, bound)
    assert batch.tpot_s() == 1.0


# -- those that stand behind ---------------------------------------------------------------------


def late(slot: int) -> Row:
    return decode(slot, ttft_s=0.05)  # its first token came after 0.1 s


def test_those_behind_leave_an_eighth_of_the_kv() -> None:
    batch = growing(kv_free=1500)
    assert batch.takes(ask(tokens=500), behind=True)
    assert batch.takes(ask(tokens=501), behind=True) is False
    assert batch.takes(ask(tokens=501))
    assert growing(kv_free=1500, promised=False).takes(ask(tokens=501), behind=True)
    batch.keep_for(first := ask("first", tokens=1400))
    assert batch.takes(first, behind=True)  # one at a time may have all of it


def test_those_behind_may_always_be_their_share_of_the_batch() -> None:
    rows = tuple(decode(slot) for slot in range(8))
    # No seat to spare and no target: but none of 8 stands behind.
    batch = growing(rows, tightest_s=0.001, seats=9, kv_free=4000)
    assert batch.takes(ask(), behind=True) is True
    batch.join(ask(), behind=True)
    assert not growing((*rows[1:], late(0)), 0.001, 9, 4000).takes(ask("b"), behind=True)


def test_beyond_their_share_they_leave_seats_and_target() -> None:
    # Three sequences; 200 tokens of context, its 100 and half of its answer.
    rows, step_s = (decode(0), late(1)), 0.013 + 350 * 1e-5
    assert growing(rows, step_s / 0.875 + 1e-9, 16, 4000).takes(ask(), behind=True)
    assert not growing(rows, step_s / 0.875 - 1e-9, 16, 4000).takes(ask(), behind=True)
    many = tuple(late(slot) for slot in range(14))
    assert not growing(many, 1.0, 16, 4000).takes(ask(), behind=True)  # two of 16 seats are left
    assert growing(many[1:], 1.0, 16, 4000).takes(ask(), behind=True)


def test_those_without_a_deadline_stand_behind() -> None:
    rows = tuple(decode(slot, ttft_s=math.inf) for slot in range(7))
    assert not growing(rows, 0.001, 8, 4000).takes(ask(), behind=True)


def test_one_that_joins_behind_is_counted() -> None:
    rows = tuple(decode(slot) for slot in range(7))
    batch = growing(rows, tightest_s=0.001, seats=9, kv_free=4000)
    batch.join(ask("a"), bound=False)  # not behind: still none of 8
    assert batch.takes(ask("b"), behind=True)
    batch = growing(rows, tightest_s=0.001, seats=9, kv_free=4000)
    batch.join(ask("a"), bound=False, behind=True)  # one of 8
    assert not batch.takes(ask("b"), behind=True)
