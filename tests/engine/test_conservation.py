"""Is no step empty while a request could run? Where seats and KV end exactly."""

from __future__ import annotations

from scorpio.core.plan import StepPlan
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted


def test_without_a_seat_the_batch_goes_on_whatever_waits() -> None:
    """The plan gives the step to one that waits, and there is no seat for it."""
    engine = Engine(EngineSpec(pipeline_depth=1, max_num_seqs=1, max_num_batched_tokens=16))
    policy = Scripted(StepPlan())
    engine.scorpio.use_policy(policy)
    engine.add("a", prompt=64)
    engine.step()
    engine.add("w", prompt=16)
    policy.answer = StepPlan(admit=["w"], defer_prefill=[0])
    assert engine.step().num_scheduled_tokens == {"a": 16}


def test_one_that_takes_all_of_the_kv_is_started() -> None:
    """Four blocks of 16 are free, and it needs them all."""
    spec = EngineSpec(
        pipeline_depth=1,
        num_blocks=5,
        max_num_seqs=4,
        max_model_len=80,
        max_num_batched_tokens=128,
        watermark=0.0,
    )
    engine = Engine(spec)
    engine.scorpio.use_policy(Scripted(StepPlan(admit=[])))
    engine.add("a", prompt=64, output=1)
    assert engine.step().num_scheduled_tokens == {"a": 64}
    engine.drain()
    engine.assert_drained()
