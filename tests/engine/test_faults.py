"""A fault of monitoring changes no decision and is visible; every error answers the client."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from vllm.v1.core.sched.interface import PauseState

from scorpio import channel
from scorpio.core.plan import FinalState, Rejection, RejectReason, StepPlan
from scorpio.core.request import RequestView
from scorpio.engine.record import faults
from scorpio.engine.record.faults import Breaker, Faults
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted
from tests.engine.test_serving_clock import PROFILE


def status(folder: Path) -> dict[str, Any]:
    found = channel.read_status(folder)
    assert found is not None
    return found


def test_a_full_disk_ends_the_status_for_as_long_as_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(scorpio={"policy": "scorpio", "latency": PROFILE, "run_dir": str(tmp_path)})
    write, full = channel.write_status, [True]

    def flaky(run_dir: Any, content: Mapping[str, Any], rank: int) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(run_dir, content, rank)

    monkeypatch.setattr(channel, "write_status", flaky)
    at_start = status(tmp_path)
    engine.add("a", output=5)
    engine.drain()
    assert status(tmp_path) == at_start
    full[0] = False
    engine.scorpio.virtual_s += 1.0
    engine.add("b", output=5)
    engine.drain()
    found = status(tmp_path)
    assert found["finished_by_state"]["finished"] == 2
    assert found["monitoring_errors"] > 0
    (kind,) = found["faults"]
    assert kind == "monitoring: OSError ENOSPC in flaky"
    assert found["fallbacks"] == 0
    assert found["breaker_open"] is False


def test_steps_that_cannot_be_recorded_are_no_fault_of_the_policy(tmp_path: Path) -> None:
    blocked = tmp_path / channel.STEPS
    blocked.mkdir()
    engine = Engine(scorpio={"policy": "scorpio", "latency": PROFILE, "run_dir": str(tmp_path)})
    channel.write_control(tmp_path, "scorpio", {}, record_steps=True)
    engine.add("a", output=60)
    engine.drain()
    assert engine.scorpio.telemetry.fallbacks == 0
    assert status(tmp_path)["monitoring_errors"] > 20
    blocked.rmdir()
    engine.add("b", output=10)
    engine.drain()
    lines = [json.loads(line) for line in blocked.read_text().splitlines() if line]
    assert len(lines) >= 9
    engine.scorpio.telemetry.recorder.stop()


def test_the_heartbeat_and_the_progress_of_an_engine(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path)})
    scorpio = engine.scorpio
    scorpio.virtual_s = 1000.0
    engine.add("a", output=50)
    scheduled = scorpio.schedule()  # and it hangs in its first step
    first = status(tmp_path)
    assert (first["unfinished"], first["heartbeat_unix_s"]) == (1, 1000.0)
    assert first["last_progress_unix_s"] == 1000.0
    engine.in_flight.append((scheduled, engine.runner.execute(scheduled)[1]))
    scorpio.virtual_s = 1003.0
    engine.deliver()
    engine.step(0.0)
    later = status(tmp_path)
    assert later["last_progress_unix_s"] == later["heartbeat_unix_s"] == 1003.0
    scorpio.set_pause_state(PauseState.PAUSED_ALL)
    assert (status(tmp_path)["unfinished"], status(tmp_path)["paused"]) == (0, True)
    scorpio.virtual_s = 2000.0
    scorpio.set_pause_state(PauseState.UNPAUSED)
    resumed = status(tmp_path)
    assert (resumed["unfinished"], resumed["last_progress_unix_s"]) == (1, 2000.0)
    engine.drain()
    assert status(tmp_path)["unfinished"] == 0


@pytest.mark.parametrize("attainable_s", [1e306, 1e308, math.inf, math.nan, -1.0])
def test_no_number_in_a_refusal_loses_its_client(attainable_s: float) -> None:
    engine = Engine()
    policy = Scripted(StepPlan(admit=(), reject=tuple(
        Rejection(f"r{i}", RejectReason.TTFT_INFEASIBLE, attainable_s, 1.0) for i in range(3)
    )))  # fmt: skip
    engine.scorpio.use_policy(policy)
    for index in range(3):
        engine.add(f"r{index}")
    engine.step()
    policy.answer = StepPlan()
    engine.drain()
    assert all(len(engine.outputs[f"r{index}"]) == 1 for index in range(3))
    assert engine.scorpio.telemetry.outcomes.total(FinalState.REJECTED) == 3
    assert engine.scorpio.telemetry.fallbacks == 0


def test_a_refusal_that_cannot_be_told_ends_no_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(rejection: Rejection) -> str:
        raise ValueError(rejection.request_id)

    engine = Engine()
    monkeypatch.setattr("scorpio.engine.refusals.encode_rejection", broken)
    engine.scorpio.use_policy(
        Scripted(StepPlan(reject=(Rejection("a", RejectReason.TTFT_INFEASIBLE),)))
    )
    engine.add("a")
    engine.drain()
    assert len(engine.tokens("a")) == 4
    assert engine.scorpio.telemetry.fallbacks > 0
    engine.assert_drained()


def test_one_that_vllm_ended_is_answered_though_it_failed_half_way() -> None:
    engine = Engine()
    ended = engine.scheduler._free_request

    def failing(request: Any, *rest: Any, **more: Any) -> Any:
        ended(request, *rest, **more)
        raise RuntimeError("after the request is gone")

    refusal = Rejection("a", RejectReason.TTFT_INFEASIBLE)
    policy = Scripted(StepPlan(admit=(), reject=(refusal,)))
    engine.scorpio.use_policy(policy)
    engine.add("a")
    engine.scheduler._free_request = failing
    engine.step()
    engine.scheduler._free_request = ended
    policy.answer = StepPlan()
    assert len(engine.outputs["a"]) == 1
    engine.drain()
    engine.assert_drained()


class Odd(Scripted):
    """No key for some."""

    def queue_key(self, view: RequestView) -> float:
        if view.prompt_tokens == 77:
            return math.nan
        if view.prompt_tokens == 78:
            raise ZeroDivisionError
        return view.deadline_s


def test_a_policy_without_a_key_for_a_request_costs_nothing_else() -> None:
    engine = Engine()
    engine.scorpio.use_policy(Odd())
    for index, prompt in enumerate((10, 77, 78, 11)):
        engine.add(f"r{index}", prompt=prompt)
    assert len(engine.scorpio.waiting.table) == 4
    assert engine.scorpio.telemetry.fallbacks == 2
    engine.scorpio.use_policy(Odd())  # and when all are sorted again
    assert len(engine.scorpio.waiting.table) == 4
    engine.drain()
    assert all(len(engine.tokens(f"r{index}")) == 4 for index in range(4))
    engine.assert_drained()


def test_a_request_that_cannot_be_described_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> RequestView:
        raise RuntimeError("odd request")

    monkeypatch.setattr("scorpio.engine.parts.describe", broken)
    engine = Engine()
    engine.scorpio.use_policy(Scripted())
    engine.add("a", slo_ttft_ms=5)
    engine.drain()
    assert len(engine.tokens("a")) == 4
    assert engine.scorpio.telemetry.fallbacks == 1


def test_a_policy_that_cannot_learn_goes_on_planning() -> None:
    class Forgetful(Scripted):
        def observe(self, sample: Any) -> None:
            raise RuntimeError("no")

    engine = Engine(EngineSpec(pipeline_depth=2))
    engine.scorpio.use_policy(Forgetful())
    engine.add("a", output=9)
    engine.drain()
    assert len(engine.tokens("a")) == 9


def test_kinds_are_bounded_and_say_nothing_a_client_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[object] = []
    monkeypatch.setattr(faults.logger, "exception", lambda *args, **_: logged.append(args))
    known = Faults(lambda: 5.0)
    for number in range(200):
        known.note(faults.POLICY, type(f"Error{number % 100}", (Exception,), {})("canary"))
    assert len(logged) == 64
    assert "canary" not in json.dumps(known.state())
    assert known.counts[faults.POLICY] == 200


def test_the_breaker_opens_by_rate_and_closes() -> None:
    breaker = Breaker(3, window_s=10.0, quiet_s=5.0)
    for now_s in (0.0, 20.0, 40.0, 60.0):
        breaker.failed(now_s)
    assert not breaker.is_open(60.0)
    breaker.failed(61.0)
    breaker.failed(62.0)
    assert breaker.is_open(66.9)
    assert not breaker.is_open(67.1)
    assert breaker.opened == 1
