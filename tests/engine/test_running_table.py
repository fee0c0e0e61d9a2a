"""Every column equals what an oracle reads off vLLM's own requests, at every step."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import Snapshot
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import abort
from tests.engine.driver import Engine, Scripted


class Checked(Scripted):
    """Compares each snapshot with the requests themselves; skips some decodes at random."""

    def __init__(self, engine: Engine, seed: int) -> None:
        super().__init__()
        self.engine = engine
        self.rng = random.Random(seed)
        self.slots: dict[str, int] = {}
        self.checked = 0
        self.preempted = 0

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        batch, running = snapshot.running, self.engine.scheduler.running
        ids = [r.request_id for r in running]
        assert [v.request_id for v in batch.views] == ids
        assert len(set(batch.slot.tolist())) == len(ids)
        slots = dict(zip(ids, batch.slot.tolist(), strict=True))
        for row, request in enumerate(running):
            name = request.request_id
            decode = not request.is_prefill_chunk
            known = request.num_tokens + request.num_output_placeholders
            assert batch.is_decode[row] == decode
            assert batch.context_tokens[row] == request.num_computed_tokens
            assert batch.output_tokens[row] == known - request.num_prompt_tokens
            left = 0 if decode else request.num_tokens - request.num_computed_tokens
            assert batch.prefill_left[row] == left
            assert batch.joined[row] == (name not in self.slots)
            if name in self.slots:
                assert self.slots[name] == slots[name]
            assert math.isnan(batch.first_token_s[row]) == (request.num_output_tokens == 0)
            self.preempted += request.num_preemptions
        self.slots = slots
        self.checked += 1
        rows = np.flatnonzero(batch.is_decode).tolist()
        return StepPlan(skip_decode=self.rng.sample(rows, self.rng.randrange(len(rows) or 1)))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_columns_match_the_oracle(depth: Any, seed: int) -> None:
    spec = EngineSpec(
        num_blocks=40, max_num_seqs=8, max_num_batched_tokens=48, max_model_len=512,
        pipeline_depth=depth,
    )  # fmt: skip
    engine, rng = Engine(spec), random.Random(seed)
    policy = Checked(engine, seed)
    engine.scorpio.use_policy(policy)
    for index in range(120):
        if rng.random() < 0.4:
            engine.add(f"r{index}", rng.randint(1, 120), rng.randint(1, 60))
        if rng.random() < 0.05 and engine.scheduler.requests:
            abort(engine.scheduler, rng.choice(sorted(engine.scheduler.requests)))
        engine.step()
    engine.drain()
    engine.assert_drained()
    assert engine.scorpio.telemetry.fallbacks == 0
    assert policy.checked > 100
    assert policy.preempted > 0


class Slots(Scripted):
    """Remembers the slot of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, int] = {}

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        batch = snapshot.running
        for view, slot in zip(batch.views, batch.slot.tolist(), strict=True):
            self.of[view.request_id] = slot
        return StepPlan()


def test_slots_are_free_again_in_the_order_of_rows() -> None:
    """Invariant 26: in the order of a set of texts, another process would learn something else."""
    engine = Engine(EngineSpec(pipeline_depth=1, max_num_seqs=16))
    policy = Slots()
    engine.scorpio.use_policy(policy)
    first, second = ([f"{name}{i}" for i in range(16)] for name in ("a", "b"))
    for request_id in first:
        engine.add(request_id, prompt=4, output=3)
    engine.drain()
    for request_id in second:
        engine.add(request_id, prompt=4, output=3)
    engine.drain()
    assert [policy.of[i] for i in second] == [policy.of[i] for i in reversed(first)]
