"""What can an engine look like? Random but valid scenes, and the snapshot a policy would see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from scorpio.core.drafts import DraftView
from scorpio.core.kv_need import KvGroup, KvNeed
from scorpio.core.latency import (
    LatencyProfile,
    StepModel,
    decode_from_step,
    prefill_from_step,
)
from scorpio.core.policy import Policy
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from scorpio.core.snapshot import EngineLimits, RunningBatch, Snapshot, StepSample
from scorpio.core.waiting import WaitingTable

AnyPolicy = TypeVar("AnyPolicy", bound=Policy)
NOW_S = 1000.0
MAX_MODEL_LEN = 4096


@dataclass(frozen=True)
class Row:
    """One running request."""

    view: RequestView
    slot: int
    joined: bool
    computed: int  # tokens in KV
    to_compute: int  # tokens that must be in KV before it decodes
    output_tokens: int

    @property
    def is_decode(self) -> bool:
        return self.computed >= self.to_compute


@dataclass(frozen=True)
class Scene:
    """Everything outside the policy at one moment."""

    limits: EngineLimits
    running: tuple[Row, ...]
    waiting: tuple[tuple[RequestView, bool], ...]  # (view, started), in order of arrival
    now_s: float = NOW_S
    executing_since_s: float = math.nan
    drafter: tuple[int, float] | None = None  # drafts, chance of each


def profile(
    base_s: float = 0.0116, token_s: float = 3e-5, steep_s: float = 5.3e-5, context_s: float = 8e-8
) -> LatencyProfile:
    """An A100 with an 8B model, by default."""
    step = StepModel(base_s, token_s, steep_s, 96.0, 0.0, 0.0, context_s)
    return LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "test")


PROFILES = {
    "a100": profile(),
    "cpu": profile(0.05, 6e-3, 6e-3, 1e-6),
    "unmeasured": profile(0.0, 0.0, 0.0, 0.0),
}


def limits(max_num_seqs: int = 8, token_budget: int = 256, kv_tokens: int = 8192) -> EngineLimits:
    return EngineLimits(max_num_seqs, token_budget, kv_tokens, 16, MAX_MODEL_LEN)


def mamba_beside_attention(engine: EngineLimits) -> EngineLimits:
    """The same with blocks of 32 tokens, and a state for each request in the same pool."""
    groups = (KvGroup(32), KvGroup(32, 1))
    need = KvNeed(groups, engine.kv_tokens, engine.kv_tokens // 32)
    return replace(engine, block_tokens=32, chunk_block=32, tail_apart=True, kv_need=need)


def policy_for(name: str, engine: EngineLimits, speed: LatencyProfile = PROFILES["a100"]) -> Policy:
    return make_policy(name, PolicyInputs(speed, engine))


def running_batch(rows: tuple[Row, ...] | list[Row]) -> RunningBatch:
    """Rows as columns."""
    whole = np.int64
    return RunningBatch(
        views=[row.view for row in rows],
        slot=np.array([row.slot for row in rows], dtype=whole),
        joined=np.array([row.joined for row in rows], dtype=np.bool_),
        is_decode=np.array([row.is_decode for row in rows], dtype=np.bool_),
        context_tokens=np.array([row.computed for row in rows], dtype=whole),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=whole),
        prefill_left=np.array([max(row.to_compute - row.computed, 0) for row in rows], dtype=whole),
        first_token_s=np.array(
            [row.view.arrival_s + 0.1 if row.output_tokens else math.nan for row in rows]
        ),
        tpot_slo_s=np.array([row.view.slo.tpot_s for row in rows], dtype=np.float64),
        deadline_s=np.array([row.view.deadline_s for row in rows], dtype=np.float64),
        value=np.array([row.view.slo.value for row in rows], dtype=np.float64),
    )


def snapshot(policy: Policy, scene: Scene) -> Snapshot:
    """The scene in this policy's own order."""
    table = WaitingTable()
    for view, started in scene.waiting:
        table.add(view, policy.queue_key(view), started)
    used = sum(row.computed for row in scene.running)
    free = max(scene.limits.kv_tokens - used, 0)
    return Snapshot(
        running_batch(scene.running), table, scene.limits, free, scene.executing_since_s,
        drafts=None if scene.drafter is None else drafts(scene.running, *scene.drafter),
    )  # fmt: skip


def drafts(rows: Sequence[Row], most: int, chance: float) -> DraftView:
    """Each decode has all of its drafts at hand."""
    at_hand = np.array([most * row.is_decode for row in rows], dtype=np.int64)
    each = float(sum(chance**k for k in range(most + 1)))
    return DraftView(most, at_hand, np.full(len(rows), chance), chance, each)


# -- strategies --------------------------------------------------------------------------------

ttft_slos = st.one_of(
    st.sampled_from([math.inf, 0.001, 0.5, 2.0, 7.5, 30.0, 86_400.0]), st.floats(0.01, 20.0)
)
tpot_slos = st.one_of(
    st.sampled_from([math.inf, 1e-6, 0.03, 0.05, 0.2, 5.0, 86_400.0]), st.floats(0.005, 0.5)
)
values = st.one_of(st.just(1.0), st.sampled_from([1e-6, 4.0, 1e6]))
slos = st.builds(Slo, ttft_slos, tpot_slos, st.just(math.inf), st.sampled_from(OnMiss), values)
predictions = st.one_of(st.sampled_from([math.nan, math.inf, -1.0, 0.0, 1e9]), st.floats(1, 2000))


@st.composite
def views(draw: st.DrawFn, seq: int) -> RequestView:
    prompt_tokens = draw(st.integers(1, MAX_MODEL_LEN - 1))
    return RequestView(
        request_id=f"r{seq}",
        seq=seq,
        arrival_s=NOW_S - draw(st.floats(0.0, 40.0)),
        prompt_tokens=prompt_tokens,
        max_tokens=draw(st.integers(1, MAX_MODEL_LEN)),
        slo=draw(slos),
        tenant=draw(st.sampled_from(["", "a", "b"])),
        predicted_output_tokens=draw(predictions),
        cached_tokens=draw(st.sampled_from([0, (prompt_tokens - 1) // 2, prompt_tokens - 1])),
    )


@st.composite
def rows(draw: st.DrawFn, view: RequestView, slot: int) -> Row:
    output = draw(st.integers(0, min(view.max_tokens, MAX_MODEL_LEN - view.prompt_tokens)))
    to_compute = view.prompt_tokens + max(output - 1, 0)
    decodes = output > 0 and draw(st.booleans())
    computed = to_compute if decodes else draw(st.integers(0, to_compute - 1))
    return Row(view, slot, draw(st.booleans()), computed, to_compute, output)


@st.composite
def scenes(draw: st.DrawFn, most_waiting: int = 30) -> Scene:
    engine = limits(
        max_num_seqs=draw(st.integers(1, 24)),
        token_budget=draw(st.sampled_from([64, 256, 2048])),
        kv_tokens=draw(st.sampled_from([64, 2048, 200_000])),
    )
    engine = draw(st.sampled_from([engine, engine, mamba_beside_attention(engine)]))
    n_running = draw(st.integers(0, engine.max_num_seqs))
    slots = draw(st.permutations(range(engine.max_num_seqs)))
    running = tuple(
        draw(rows(draw(views(seq)), slot)) for seq, slot in enumerate(slots[:n_running])
    )
    n_waiting = draw(st.integers(0, most_waiting))
    waiting = tuple(
        (draw(views(seq)), draw(st.integers(0, 5)) == 0)
        for seq in range(n_running, n_running + n_waiting)
    )
    busy_since_s = draw(st.sampled_from([math.nan, NOW_S - 0.01, NOW_S - 5.0, NOW_S + 1.0]))
    drafter = draw(st.sampled_from([None, None, None, (3, 0.7), (1, 1.0), (4, 0.0)]))
    return Scene(engine, running, waiting, executing_since_s=busy_since_s, drafter=drafter)


def proven(policy: AnyPolicy, profile: LatencyProfile) -> AnyPolicy:
    """Steps were seen that took what the profile says: forecasts may refuse."""
    model = profile.step
    for _ in range(3):
        policy.observe(StepSample(0, 0.0, 0.0, 1, 10, model.step_s(1, 10.0)))
    return policy
