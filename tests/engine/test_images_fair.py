"""Images beside others: does each get its turn? Decodes beside images that take a whole step, a
long image behind short ones, and others beside one with images that cannot start anyway."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest

from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import Snapshot
from scorpio.engine.view.encoder import EncoderRoom
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Scripted
from tests.engine.picturing import PicturingEngine
from tests.engine_server import PROFILE

SPEC = EngineSpec(pipeline_depth=1, max_num_batched_tokens=128, num_blocks=2000,
                  max_model_len=512, max_num_seqs=32)  # fmt: skip


def beside_a_decode(spec: EngineSpec, decodes: int = 1) -> tuple[PicturingEngine, Scripted]:
    """Images are read whole, and a step is just long enough for one of them."""
    engine, policy = PicturingEngine(spec, whole=True), Scripted()
    engine.scorpio.use_policy(policy)
    for number in range(decodes):
        engine.add(f"d{number}", 16, 200)
    engine.step()
    engine.step()
    return engine, policy


@pytest.mark.parametrize("budget", [16, None])
def test_a_decode_moves_in_every_second_step(budget: int | None) -> None:
    engine, policy = beside_a_decode(SPEC)
    policy.answer = StepPlan(token_budget=budget)
    for number in range(60):
        engine.see(f"x{number}", [(0, 128, f"i{number}")], 128, 1)
    moved = ["d0" in engine.step().num_scheduled_tokens for _ in range(60)]
    assert all(one or other for one, other in pairwise(moved))
    assert sum(bool(engine.tokens(f"x{number}")) for number in range(60)) >= 5
    policy.answer = None
    engine.drain()
    engine.assert_all_served()
    assert engine.scorpio.telemetry.fallbacks == 0


@pytest.mark.parametrize("lacks", ["seat", "kv"])
def test_decodes_do_not_sit_out_for_one_that_cannot_start(lacks: str) -> None:
    few = {"max_num_seqs": 2} if lacks == "seat" else {"num_blocks": 36}
    engine, policy = beside_a_decode(EngineSpec(**{**asdict(SPEC), **few}), decodes=2)
    engine.see("x", [(0, 128, "long")], 128 if lacks == "seat" else 510, 1)
    policy.answer = StepPlan(admit=("x",))
    for _ in range(60):
        assert set(engine.step().num_scheduled_tokens) == {"d0", "d1"}
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


@pytest.mark.parametrize("depth", [1, 2])
def test_a_long_image_is_not_behind_short_ones_for_ever(depth: Any) -> None:
    which = EngineSpec(**{**asdict(SPEC), "pipeline_depth": depth})
    settings = {"policy": "edf", "latency": PROFILE.to_dict()}
    engine, number = PicturingEngine(which, settings), 0

    def short() -> None:
        nonlocal number
        engine.see(f"s{number}", [(0, 40, f"i{number}")], 100, 2)
        number += 1

    short()
    engine.step()
    short()
    engine.see("long", [(0, 120, "long")], 130, 2)
    steps = 0
    while not engine.tokens("long"):
        if len(engine.scheduler.waiting) < 3:
            short()
        engine.step()
        steps += 1
        assert steps < 100
    engine.drain()
    engine.assert_all_served()


def test_one_that_was_kept_back_can_be_refused_once_it_is_late() -> None:
    seen: list[list[str]] = []

    class Looks(Scripted):
        def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
            seen.append([view.request_id for view in snapshot.waiting])
            return super().plan(now_s, snapshot)

    engine = PicturingEngine(SPEC)
    engine.scorpio.use_policy(Looks())
    engine.see("holds", [(0, 120, "one")], 200, 9)
    engine.step()
    request, cache = engine.scheduler.requests["holds"], engine.scheduler.encoder_cache_manager
    slo = {"slo_ttft_ms": 30.0, "slo_on_miss": "reject"}
    engine.see("late", [(0, 120, "two")], 130, 4, **slo)
    seen.clear()
    for _ in range(6):
        if "holds" not in cache.request_cached_ids:
            assert cache.check_and_update_cache(request, 0)
        engine.step()
    assert (seen[0], seen[1], seen[-1]) == (["late"], [], ["late"])
    engine.drain()
    engine.assert_all_served()


def test_text_alone_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PicturingEngine(SPEC)
    engine.scorpio.use_policy(Scripted())
    engine.see("image", [(0, 40, "one")], 100, 2)
    engine.drain()
    asked: list[str] = []
    monkeypatch.setattr("scorpio.engine.images._run", lambda *_: asked.append("run"))
    engine.add("text", 100)
    engine.drain()
    engine.assert_all_served()
    assert not asked
    assert not engine.scorpio._images._live


def test_of_many_that_were_kept_back_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy = PicturingEngine(SPEC), Scripted()
    engine.scorpio.use_policy(policy)
    for number in range(300):
        engine.see(f"x{number}", [(0, 60, f"i{number}")], 60, 1)
    engine.step()
    assert len(engine.scheduler.waiting.no_room) > 100
    state = engine.scorpio._state()
    assert state["unfinished"] == len(engine.scheduler.requests)  # the engine has work
    asked: list[str] = []
    tokens = EncoderRoom.tokens

    def counted(self: EncoderRoom, request: Any, *numbers: int) -> int:
        asked.append(request.request_id)
        return tokens(self, request, *numbers)

    monkeypatch.setattr(EncoderRoom, "tokens", counted)
    engine.scorpio._snapshot()
    assert len(asked) <= 64
    monkeypatch.undo()
    engine.drain()
    engine.assert_all_served()
