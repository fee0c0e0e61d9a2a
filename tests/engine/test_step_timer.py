"""What belongs to a step's time? vLLM's work between steps does, an idle engine's rest does not."""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.engine.record.step_timer import StepTimer
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import SchedulerOutput, abort
from tests.conformance.snapshots import running_batch
from tests.engine.driver import STEP_S, Engine, Scripted


def durations(policy: Scripted) -> list[float]:
    return [sample.duration_s for sample in policy.samples]


def test_time_between_steps_is_part_of_the_later_one() -> None:
    engine, policy = Engine(EngineSpec(pipeline_depth=1)), Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=3)
    engine.step()
    engine.scorpio.virtual_s += 0.004  # the API process has the interpreter
    engine.step()
    engine.step()
    assert durations(policy) == pytest.approx([STEP_S, STEP_S + 0.004, STEP_S])
    assert [sample.woken for sample in policy.samples] == [True, False, False]


def test_rest_of_an_idle_engine_is_not() -> None:
    engine, policy = Engine(EngineSpec(pipeline_depth=1)), Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=1)
    engine.drain()
    engine.scorpio.virtual_s += 5.0
    engine.add("b", output=1)
    engine.scorpio.virtual_s += 0.001
    engine.step()
    assert durations(policy) == pytest.approx([STEP_S, STEP_S + 0.001])
    assert [sample.woken for sample in policy.samples] == [True, True]


def test_rest_after_the_last_client_left_is_not() -> None:
    engine, policy = Engine(EngineSpec(pipeline_depth=1)), Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=50)
    engine.step()
    abort(engine.scheduler, "a")
    engine.scorpio.virtual_s += 5.0
    engine.add("b", output=1)
    engine.step()
    assert durations(policy)[-1] == pytest.approx(STEP_S)


@pytest.mark.parametrize("together", [False, True])
def test_a_dummy_batch_between_two_steps_is_not_where_ranks_step_together(together: bool) -> None:
    """vLLM computes it when a step had nothing to compute, and the next one begins behind it."""
    timer, batch = StepTimer(together), running_batch([])
    duration_s = []
    for begun_s, ended_s, tokens in ((0.0, 1.0, 5), (1.0, 1.0, 0), (1.8, 2.0, 5), (2.0, 2.3, 5)):
        step: Any = SchedulerOutput.make_empty()
        step.total_num_scheduled_tokens = tokens
        timer.scheduled(step, begun_s, batch)
        sample = timer.finished(step, ended_s)
        duration_s.append(None if sample is None else sample.duration_s)
    assert duration_s[2:] == pytest.approx([0.2 if together else 1.0, 0.3])
