"""Does every registered policy keep the contract of `Policy.plan`, whatever the engine is like?"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorpio.core.latency import LatencyProfile
from scorpio.core.plan import FinalState
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from scorpio.core.snapshot import StepSample
from scorpio.policy_packages import all_policies
from tests.conformance.mini_engine import MiniEngine
from tests.conformance.rules import assert_lawful, frozen
from tests.conformance.snapshots import (
    PROFILES,
    Scene,
    limits,
    policy_for,
    scenes,
    snapshot,
    views,
)

pytestmark = pytest.mark.parametrize("name", all_policies())
speeds = st.sampled_from(sorted(PROFILES))
relaxed = settings(max_examples=60, deadline=None)


@given(scene=scenes(), speed=speeds)
@relaxed
def test_a_plan_is_lawful_and_leaves_the_snapshot_alone(
    name: str, scene: Scene, speed: str
) -> None:
    policy = policy_for(name, scene.limits, PROFILES[speed])
    seen = snapshot(policy, scene)
    before = frozen(seen)
    assert_lawful(policy.plan(scene.now_s, seen), seen)
    assert frozen(seen) == before


@given(history=st.lists(scenes(most_waiting=10), min_size=1, max_size=4), speed=speeds)
@relaxed
def test_the_same_history_gives_the_same_plans(name: str, history: list[Scene], speed: str) -> None:
    """Also: state left by one scene never breaks the next (slots are reused all the time)."""
    engine = max((scene.limits for scene in history), key=lambda lim: lim.max_num_seqs)
    plans = []
    for _ in range(2):
        policy = policy_for(name, engine, PROFILES[speed])
        lawful = []
        for scene in history:
            seen = snapshot(policy, scene)
            lawful.append(policy.plan(scene.now_s, seen))
            assert_lawful(lawful[-1], seen)
        plans.append(lawful)
    assert plans[0] == plans[1]


@given(scene=scenes(), now_s=st.sampled_from([-1e9, 0.0, 1e-300, 1e12]))
@relaxed
def test_a_mad_clock_breaks_nothing(name: str, scene: Scene, now_s: float) -> None:
    policy = policy_for(name, scene.limits)
    seen = snapshot(policy, scene)
    for moment in (now_s, now_s, scene.now_s, now_s):
        assert_lawful(policy.plan(moment, seen), seen)


@given(view=views(3))
def test_the_queue_key_is_a_fixed_number(name: str, view: RequestView) -> None:
    policy = policy_for(name, limits())
    key = policy.queue_key(view)
    assert not math.isnan(key)
    assert policy.queue_key(view) == key


@given(
    scene=scenes(),
    prefill=st.integers(0, 10**6),
    decodes=st.integers(0, 4096),
    duration_s=st.sampled_from([0.0, 1e-9, 0.02, 1e6]),
)
@settings(max_examples=30, deadline=None)
def test_any_sample_may_be_observed(
    name: str, scene: Scene, prefill: int, decodes: int, duration_s: float
) -> None:
    policy = policy_for(name, scene.limits)
    for _ in range(5):
        policy.observe(
            StepSample(prefill, float(prefill) ** 2, 0.0, decodes, decodes * 100, duration_s)
        )
    seen = snapshot(policy, scene)
    assert_lawful(policy.plan(scene.now_s, seen), seen)


def test_name_is_the_registered_one(name: str) -> None:
    assert policy_for(name, limits()).name == name


def test_unknown_option_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="no_such_option"):
        make_policy(name, PolicyInputs(PROFILES["a100"], limits(), {"no_such_option": 1.0}))


def random_life(rng: random.Random, seq: int, now_s: float) -> tuple[RequestView, int]:
    slo = Slo(
        rng.choice([0.2, 0.5, 2.0, 7.5, math.inf]),
        rng.choice([0.001, 0.03, 0.05, 0.2, math.inf]),
        on_miss=rng.choice([OnMiss.REJECT, OnMiss.REJECT, OnMiss.DEGRADE, OnMiss.WAIT]),
    )
    output = rng.randint(1, 30)
    predicted = rng.choice([math.nan, float(output), 1.0, 1e9])
    prompt = rng.choice([rng.randint(1, 600), rng.randint(1, 60)])
    facts = RequestView(f"r{seq}", seq, now_s, prompt, 64, slo, predicted_output_tokens=predicted)
    return facts, output


def live_through(name: str, speed: LatencyProfile, seed: int) -> MiniEngine:
    """Random arrivals, aborts and preemptions; then no more arrivals until all is drained."""
    rng = random.Random(seed)
    size = limits(max_num_seqs=rng.choice([1, 2, 8]), token_budget=rng.choice([32, 256]))
    engine = MiniEngine(policy_for(name, size, speed), size, speed)
    seq = 0
    for _ in range(150):
        for _ in range(rng.choice([0, 0, 1, 3])):
            seq += 1
            engine.arrive(*random_life(rng, seq, engine.now_s))
        engine.step()
        alive = [i for i, life in engine.lives.items() if not life.ends]
        if alive and rng.random() < 0.1:
            engine.abort(rng.choice(alive))
        if engine.rows and rng.random() < 0.1:
            engine.preempt(engine.rows[-1].view.request_id)  # vLLM's victim
    for _ in range(20_000):
        if not engine.rows and not len(engine.waiting):
            break
        engine.step()
    return engine


@pytest.mark.parametrize("speed", sorted(PROFILES))
@pytest.mark.parametrize("seed", range(4))
def test_every_request_ends_exactly_once(name: str, speed: str, seed: int) -> None:
    """Invariants 1, 3, 4, and no starvation once arrivals stop."""
    engine = live_through(name, PROFILES[speed], seed)
    assert not engine.rows
    assert not len(engine.waiting)
    assert all(len(life.ends) == 1 for life in engine.lives.values())
    finished = [v for v in engine.lives.values() if v.ends == [FinalState.FINISHED]]
    assert all(life.produced == life.will_produce for life in finished)
    assert finished
    kept = (OnMiss.WAIT, OnMiss.DEGRADE)
    for life in engine.lives.values():
        if life.view.slo.on_miss in kept:
            assert life.ends != [FinalState.REJECTED]
