"""Do the counters of the status say what was done?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vllm.v1.core.sched.interface import PauseState

from scorpio import channel
from scorpio.core.plan import StepPlan
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted
from tests.engine.test_startable import add_with_grammar


def test_steps_are_stock_or_planned() -> None:
    engine = Engine()
    telemetry = engine.scorpio.telemetry
    assert telemetry.last_plan_s == 0.0
    engine.add("a", output=20)
    for _ in range(3):
        engine.step()
    assert (telemetry.steps, telemetry.stock_steps, telemetry.planned_steps) == (3, 3, 0)
    policy = Scripted(StepPlan())
    engine.scorpio.use_policy(policy)
    for _ in range(2):
        engine.step()
    policy.answer = StepPlan(stock=True)
    engine.step()
    assert (telemetry.steps, telemetry.stock_steps, telemetry.planned_steps) == (6, 4, 2)
    assert telemetry.fallbacks == 0


def test_steps_that_were_filled_are_counted() -> None:
    engine = Engine()
    engine.scorpio.use_policy(Scripted(StepPlan(admit=[])))
    telemetry = engine.scorpio.telemetry
    assert telemetry.filled_steps == 0
    engine.add("a")
    engine.step()
    assert telemetry.filled_steps == 1
    assert engine.scheduler.running


def test_the_status_of_an_engine_that_comes_to_rest_is_of_now(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path)})
    for name in ("a", "b"):
        engine.add(name, output=3)
        engine.drain()
        status: Any = channel.read_status(tmp_path)
        assert status["running"] == status["waiting"] == 0
    assert status["finished_by_state"]["finished"] == 2


def test_a_policy_that_fails_twenty_times_is_not_asked_any_more() -> None:
    engine = Engine()
    engine.scorpio.use_policy(Scripted(ValueError("broken")))
    engine.add("a", output=200)
    for _ in range(100):
        engine.step()
    assert engine.scorpio.telemetry.fallbacks == 20
    assert len(engine.tokens("a")) == 100


def test_nothing_is_planned_during_a_pause() -> None:
    engine, policy = Engine(), Scripted(StepPlan())
    engine.scorpio.use_policy(policy)
    engine.add("a", output=20)
    engine.step()
    policy.seen = None
    engine.scheduler.set_pause_state(PauseState.PAUSED_NEW)
    engine.step()
    assert policy.seen is None


def test_a_switch_is_in_the_status_at_once(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path)})
    engine.add("a", output=50)
    engine.step(0.06)
    channel.write_control(tmp_path, "sjf")
    for _ in range(2):
        engine.step(0.06)  # it is looked for every 50 ms
    status: Any = channel.read_status(tmp_path)
    assert status["policy"] == "sjf"


def test_what_waits_counts_whether_it_can_start_or_not() -> None:
    engine = Engine()
    engine.scorpio.use_policy(Scripted(StepPlan(admit=[])))
    engine.add("first", output=50)
    engine.step()
    engine.add("plain", prompt=40)
    add_with_grammar(engine, "held", prompt=30)
    assert engine.scorpio.waiting.prompt_tokens == 70
    assert engine.scorpio.waiting.num_held == 1


def test_blocks_that_vllm_keeps_from_newcomers_are_not_free() -> None:
    """A watermark of a tenth of 100 blocks, beside a batch; an empty engine has all of them."""
    engine = Engine(EngineSpec(pipeline_depth=1, num_blocks=101, watermark=0.1, max_model_len=256,
                               max_num_seqs=8, max_num_batched_tokens=64))  # fmt: skip
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    free = []
    for name in ("a", "b"):
        engine.add(name, prompt=16, output=50)
        engine.step()
        assert policy.seen is not None
        free.append(policy.seen.kv_free_tokens)
    assert free[0] == 1600
    assert free[1] == 1600 - 16 * (1 + engine.scheduler.kv_cache_manager.watermark_blocks)
    assert engine.scheduler.kv_cache_manager.watermark_blocks == 10
