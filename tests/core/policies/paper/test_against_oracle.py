"""Is the vectorised policy the published algorithm, over whole histories?"""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.snapshots import PROFILES, Scene, policy_for, scenes, snapshot
from tests.core.policies.paper.oracle import PaperOracle

SPEEDS = {name: PROFILES[name] for name in ("a100", "cpu")}


@given(
    history=st.lists(scenes(), min_size=1, max_size=4),
    speed=st.sampled_from(sorted(SPEEDS)),
    repeats=st.integers(1, 4),
)
@settings(max_examples=120, deadline=None)
def test_same_as_the_oracle(history: list[Scene], speed: str, repeats: int) -> None:
    """Scenes follow each other like slots reused after aborts and preemptions; repeating one
    with `joined` off lets credits build up."""
    engine = max((s.limits for s in history), key=lambda lim: lim.max_num_seqs)
    policy, oracle = policy_for("scorpio-paper", engine, SPEEDS[speed]), PaperOracle(SPEEDS[speed])
    for drawn in history:
        scene = dataclasses.replace(drawn, limits=engine)
        for _ in range(repeats):
            plan = policy.plan(scene.now_s, snapshot(policy, scene))
            admitted, refused, skipped = oracle.plan(scene)
            assert list(plan.admit or ()) == admitted
            assert {r.request_id: r.reason for r in plan.reject} == refused
            assert set(plan.skip_decode) == skipped
            rows = tuple(dataclasses.replace(row, joined=False) for row in scene.running)
            scene = dataclasses.replace(scene, running=rows, now_s=scene.now_s + 0.02)


@given(scene=scenes(), seed=st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_the_order_of_rows_and_arrivals_does_not_matter(scene: Scene, seed: int) -> None:
    def decide(seen: Scene) -> tuple[object, ...]:
        policy = policy_for("scorpio-paper", seen.limits)
        plan = policy.plan(seen.now_s, snapshot(policy, seen))
        skipped = {seen.running[row].view.request_id for row in plan.skip_decode}
        return tuple(plan.admit or ()), {(r.request_id, r.reason) for r in plan.reject}, skipped

    rng = random.Random(seed)
    shuffled = dataclasses.replace(
        scene,
        running=tuple(rng.sample(scene.running, len(scene.running))),
        waiting=tuple(rng.sample(scene.waiting, len(scene.waiting))),
    )
    assert decide(shuffled) == decide(scene)
