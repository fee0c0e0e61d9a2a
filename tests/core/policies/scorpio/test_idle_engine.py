"""What could an idle engine serve, and when does it try although it knows better?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.idle_engine import IdleEngine
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import drafts, running_batch
from tests.core.policies.scorpio.step_scenes import step_of

# 10 ms a step, 1 ms a token, 10 ms for 1,000 tokens of context; attention: 1 us a token and prefix.
MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 1e-6, 1e-5)
SLOW = replace(MODEL, base_s=0.020, low_token_s=0.002, high_token_s=0.002)
LIMITS = EngineLimits(8, 100, 1000, 16, 4096)
NOW_S = 50.0


def ask(seq: int = 1, tokens: int = 50, cached: int = 0, ttft_s: float = math.inf,
        tpot_s: float = math.inf, e2e_s: float = math.inf) -> RequestView:  # fmt: skip
    slo = Slo(ttft_s, tpot_s, e2e_s)
    return RequestView(f"r{seq}", seq, NOW_S, tokens, 8, slo, cached_tokens=cached)


def idle(
    model: StepModel = MODEL, drafter: bool = False, waiting: WaitingTable | None = None
) -> StepContext:
    """Nothing runs. drafter: of its drafts so many count that a step gives four tokens."""
    table = WaitingTable() if waiting is None else waiting
    seen = Snapshot(running_batch(()), table, LIMITS, LIMITS.kv_tokens)
    seen.drafts = drafts((), 4, 1.0) if drafter else None
    return step_of(model, seen, NOW_S)


def ttft_s(tokens: int, cached: int, steps: int) -> float:
    return steps * 0.010 + tokens * 0.001 + 1e-6 * tokens * (cached + tokens / 2)


@pytest.mark.parametrize(
    ("tokens", "cached", "steps"),
    [(50, 0, 1), (90, 40, 1), (100, 0, 1), (101, 0, 2), (250, 100, 2)],
)
def test_never_is_half_as_long_again_as_it_takes(tokens: int, cached: int, steps: int) -> None:
    engine, needs_s = IdleEngine(MODEL, LIMITS), ttft_s(tokens - cached, cached, steps)
    soon = ask(tokens=tokens, cached=cached, ttft_s=needs_s / 1.5 * 0.999)
    late = ask(tokens=tokens, cached=cached, ttft_s=needs_s / 1.5 * 1.001)
    assert engine.unservable(idle(), soon)
    assert not engine.unservable(idle(), late)
    assert engine.unservable(
        idle(), replace(late, slo=Slo(late.slo.ttft_s, math.inf, soon.slo.ttft_s))
    )
    assert engine.unservable(idle(), replace(soon, slo=Slo(math.inf, math.inf, soon.slo.ttft_s)))


def test_a_target_that_one_alone_cannot_keep_is_never_kept() -> None:
    engine = IdleEngine(MODEL, LIMITS)
    alone_s = 0.011 + 0.01  # a context of 1,000
    assert engine.unservable(idle(), ask(tokens=1000, tpot_s=alone_s / 1.5 * 0.999))
    assert not engine.unservable(idle(), ask(tokens=1000, tpot_s=alone_s / 1.5 * 1.001))
    # Drafts: two tokens of each step.
    assert not engine.unservable(idle(drafter=True), ask(tokens=1000, tpot_s=alone_s / 6 * 1.001))
    assert engine.unservable(idle(drafter=True), ask(tokens=1000, tpot_s=alone_s / 6 * 0.999))


@pytest.mark.parametrize(("profile", "measured"), [(MODEL, SLOW), (SLOW, MODEL)])
def test_never_holds_by_the_profile_and_by_what_was_measured(
    profile: StepModel, measured: StepModel
) -> None:
    """A slow minute is no reason, nor is a profile taken in one."""
    view = ask(ttft_s=ttft_s(50, 0, 1) / 1.5 * 1.001)
    assert not IdleEngine(profile, LIMITS).unservable(idle(measured), view)
    assert IdleEngine(SLOW, LIMITS).unservable(idle(SLOW), view)


def tried(engine: IdleEngine, *views: RequestView, known: bool = True,
          refused: int | None = None) -> int | None:  # fmt: skip
    table = WaitingTable()
    for view in views:
        table.add(view, float(view.seq))
    names = [view.request_id for view in views][:refused]
    return engine.tried(idle(waiting=table), known, names)


OUT_OF_REACH = 0.001


def test_the_first_that_is_possible_is_tried_when_all_would_be_refused() -> None:
    engine = IdleEngine(MODEL, LIMITS)
    views = ask(1, ttft_s=OUT_OF_REACH), ask(2, ttft_s=0.05), ask(3, ttft_s=0.05)
    assert tried(engine, *views) == 1
    assert tried(engine, *views, refused=2) is None  # one of them is served


@pytest.mark.parametrize(("known", "row"), [(True, None), (False, 0)])
def test_an_engine_that_knows_nothing_tries_eight_times_as_much(known: bool, row: int) -> None:
    view = ask(ttft_s=ttft_s(50, 0, 1) / 8.0 * 1.001)
    assert tried(IdleEngine(MODEL, LIMITS), view, known=known) == row
    beyond = ask(ttft_s=ttft_s(50, 0, 1) / 8.0 * 0.999)
    assert tried(IdleEngine(MODEL, LIMITS), beyond, known=False) is None


def test_after_sixteen_steps_of_refusals_one_is_tried_whatever_is_known() -> None:
    engine, view = IdleEngine(MODEL, LIMITS), ask(ttft_s=OUT_OF_REACH)
    assert [tried(engine, view) for _ in range(18)] == [None] * 16 + [0, 0]
    engine.served()
    assert [tried(engine, view) for _ in range(17)] == [None] * 16 + [0]


def test_the_first_of_those_out_of_reach_is_the_one() -> None:
    engine, views = IdleEngine(MODEL, LIMITS), [ask(n, ttft_s=OUT_OF_REACH) for n in (1, 2)]
    for _ in range(16):
        tried(engine, *views)
    assert tried(engine, *views) == 0


@pytest.mark.parametrize(
    "view", [ask(1, tokens=1000), replace(ask(1, ttft_s=1.0), arrival_s=NOW_S - 1.0)]
)
def test_one_that_is_late_already_or_too_long_is_not_tried(view: RequestView) -> None:
    engine = IdleEngine(MODEL, LIMITS)
    for _ in range(20):
        assert tried(engine, view) is None
    assert tried(engine, view, ask(2, tokens=999)) == 1


def test_the_look_down_the_queue_is_bounded() -> None:
    views = [ask(seq, ttft_s=OUT_OF_REACH) for seq in range(64)]
    assert tried(IdleEngine(MODEL, LIMITS), *views[:63], ask(64)) == 63
    assert tried(IdleEngine(MODEL, LIMITS), *views, ask(65)) is None
