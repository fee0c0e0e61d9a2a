"""Does a shadow say what another policy would do, and change nothing, whatever it does?"""

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import Any, Literal

import pytest

from scorpio.core.plan import Forecast, Rejection, RejectReason, StepPlan
from scorpio.core.policy import Policy
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.engine.shadow import shadow as shadow_module
from scorpio.engine.virtual.build import EngineSpec
from scorpio.ledger.entry import ShadowWord
from scorpio.twin.config import TwinConfig
from scorpio.twin.run import run_twin
from tests.engine.driver import Engine, Scripted
from tests.engine.test_ledger import engine_in, entries
from tests.studies.yesterday import config as engine_of
from tests.studies.yesterday import serve
from tests.twin.digests import LOADS
from workloads.load import LoadKey

WATCHED = {"shadow": "scorpio", "shadow_most_share": 1.0}
FIRST, OTHER = RejectReason.TTFT_INFEASIBLE, RejectReason.KV_INFEASIBLE


def watched_by(engine: Engine, policy: Policy) -> None:
    """This one is the shadow from now on."""
    shadow = engine.scorpio._shadow
    shadow._make = lambda: policy
    shadow.restart()


def said(engine: Engine, run_dir: Path, name: str) -> ShadowWord:
    word = entries(engine, run_dir)[name].shadow
    assert word is not None
    return word


def state(engine: Engine) -> Any:
    return engine.scorpio._shadow.state()["shadow"]


def with_shadow(config: TwinConfig, load: LoadKey, policy: str) -> tuple[str, Any]:
    """The event digest of a run in which `scorpio` or another watches, and what it says."""
    told = WATCHED | {"policy": policy, "shadow": "mooncake" if policy == "scorpio" else "scorpio"}
    scheduler, loop = serve(told, load, config)
    assert scheduler.policy_fallbacks == 0
    return loop.log.digest(), scheduler._shadow.state()["shadow"]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.label)
@pytest.mark.parametrize("depth", [1, 2], ids=["sync", "async"])
@pytest.mark.parametrize("policy", ["fcfs", "scorpio"])
def test_what_is_served_is_the_same_without_it(
    load: LoadKey, depth: Literal[1, 2], policy: str
) -> None:
    """`fcfs` against vLLM's own scheduler class, which knows nothing of us."""
    config = engine_of(pipeline_depth=depth)
    digest, told = with_shadow(config, load, policy)
    alone = run_twin(config, load.requests(), policy, load.seed)
    assert digest == alone.event_digest
    assert (told["errors"], told["watching"]) == (0, True)
    # Of one that was refused before the shadow would have let it in or refused it, it says nothing.
    unsaid = len(load.requests()) - sum(told["requests"].values())
    assert 0 <= unsaid <= sum(record.reject_reason is not None for record in alone.records)
    if load.rate_scale > 2.0 and policy == "fcfs" and load.trace.startswith("azure"):
        assert told["requests"]["refused"] > 20
        assert told["requests"]["later"] > 20
        assert sum(told["refused_by_reason"].values()) == told["requests"]["refused"]


def test_the_first_word_of_each_request_is_in_its_line(tmp_path: Path) -> None:
    """One seat. The shadow refuses `no`, holds `held`, and would have let `early` in before."""
    engine = engine_in(tmp_path, EngineSpec(max_num_seqs=1, pipeline_depth=1), **WATCHED)
    policy = Scripted(StepPlan(stock=True, forecasts=(Forecast("same", 0.03, 0.02),)))
    watched_by(engine, policy)
    engine.add("same", 32, 3)
    engine.step()
    for name in ("no", "held", "early"):
        engine.add(name, 32, 1, slo_ttft_ms=50)
    first = Rejection("no", FIRST, 0.9, 2.4)
    policy.answer = StepPlan(admit=("early",), reject=(first,))
    engine.step()
    policy.answer = StepPlan(admit=())
    engine.drain()
    assert said(engine, tmp_path, "same") == ShadowWord(
        "scorpio", "same", 0.0, forecast_ttft_ms=30.0, forecast_tpot_ms=20.0
    )
    assert said(engine, tmp_path, "no") == ShadowWord(
        "scorpio", "refused", 0.0, "ttft_infeasible", 900.0, 2400.0
    )
    assert said(engine, tmp_path, "held") == ShadowWord("scorpio", "later")
    assert said(engine, tmp_path, "early") == ShadowWord("scorpio", "earlier", 0.0)
    assert {entry.outcome for entry in entries(engine, tmp_path).values()} == {"finished"}
    assert state(engine)["requests"] == {"refused": 1, "earlier": 1, "same": 1, "later": 1}
    assert state(engine)["refused_by_reason"] == {"ttft_infeasible": 1}
    engine.assert_drained()


def test_its_queue_is_in_its_own_order_without_those_it_refused() -> None:
    engine = Engine(EngineSpec(max_num_seqs=1, pipeline_depth=1), {"policy": "fcfs", **WATCHED})
    policy = Scripted(StepPlan(admit=()))
    watched_by(engine, policy)
    engine.add("runs", 32, 9)
    engine.step()
    for name, ttft_ms in (("late", 900), ("soon", 100), ("next", 500)):
        engine.add(name, 32, 1, slo_ttft_ms=ttft_ms)
    engine.step()
    assert policy.seen is not None
    assert [view.request_id for view in policy.seen.waiting] == ["soon", "next", "late"]
    assert [view.request_id for view in engine.scorpio.waiting.table] == ["late", "soon", "next"]
    policy.answer = StepPlan(admit=(), reject=(Rejection("next", FIRST),))
    engine.step()
    policy.answer = StepPlan(admit=())
    engine.scorpio.use_policy(engine.scorpio.policy_switch.build("edf"))
    engine.step()
    assert [view.request_id for view in policy.seen.waiting] == ["soon", "late"]
    engine.drain()
    engine.assert_drained()


class Vandal(Scripted):
    """Writes into all that it is shown."""

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        snapshot.running.context_tokens[:] = 10**6
        snapshot.running.views.clear()
        snapshot.waiting.deadline_s[:] = -1.0
        for view in list(snapshot.waiting):
            snapshot.waiting.remove(view.request_id)
        snapshot.computing = {7: "x"}
        return StepPlan(admit=())


def test_what_it_writes_into_its_snapshot_reaches_no_other() -> None:
    engine = Engine(EngineSpec(max_num_seqs=2, pipeline_depth=1), {"policy": "edf", **WATCHED})
    watched_by(engine, Vandal())
    serving = Scripted(StepPlan())
    engine.scorpio.use_policy(serving)
    for name in "abc":
        engine.add(name, 32, 4, slo_ttft_ms=500)
    engine.step()
    engine.step()
    assert serving.seen is not None
    assert [view.request_id for view in serving.seen.running.views] == ["a", "b"]
    assert serving.seen.running.context_tokens.tolist() == [32, 32]
    assert serving.seen.waiting.deadline_s.tolist() == [0.5]
    engine.drain()
    assert engine.scorpio.telemetry.fallbacks == 0
    engine.assert_drained()


class Broken(Scripted):
    """Fails in each of its methods."""

    def queue_key(self, view: RequestView) -> float:
        raise ValueError("key")

    def observe(self, sample: StepSample) -> None:
        raise ValueError("observe")


def test_errors_of_it_are_counted_apart_and_switch_it_off_for_a_while() -> None:
    told = {"policy": "fcfs", **WATCHED, "breaker_limit": 5, "breaker_quiet_s": 3.0}
    engine = Engine(None, told)
    watched_by(engine, Broken(RuntimeError("a canary")))
    for number in range(4):
        engine.add(f"r{number}", 32, 8)
        engine.step()
    engine.drain()
    found = state(engine)
    assert (found["watching"], found["errors"]) == (False, 5)
    assert found["off_because"].startswith("it failed too often, the last time with ")
    assert "canary" not in str(found)
    telemetry = engine.scorpio.telemetry
    assert (telemetry.fallbacks, engine.scorpio._state()["breaker_open"]) == (0, False)
    assert all(name.startswith("shadow: ") for name in telemetry.faults.state()["faults"])  # type: ignore[attr-defined]
    engine.scorpio.virtual_s += 3.0
    watched_by(engine, policy := Scripted())
    engine.add("later", 32, 4)
    engine.step()
    assert policy.seen is not None
    assert (state(engine)["watching"], state(engine)["off_because"]) == (True, "")
    engine.drain()
    engine.assert_drained()


def test_a_plan_against_the_rules_is_an_error_of_it() -> None:
    engine = Engine(None, {"policy": "fcfs", **WATCHED})
    watched_by(engine, Scripted(StepPlan(reject=(Rejection("unknown", OTHER),))))
    engine.add("a", 32, 4)
    engine.drain()
    assert state(engine)["errors"] > 0
    assert engine.scorpio.telemetry.fallbacks == 0


class Slow(Scripted):
    """Takes some of this machine's time."""

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        sleep(0.002)
        return StepPlan(stock=True)


def test_one_that_costs_too_much_is_off_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_module, "_STEPS", 16)
    engine = Engine(None, {"policy": "fcfs", **WATCHED, "shadow_most_share": 0.1})
    watched_by(engine, Slow())
    engine.add("a", 32, 40)
    engine.drain()  # steps of 10 ms
    assert not state(engine)["watching"]
    assert state(engine)["cost_share"] > 0.1
    assert state(engine)["off_because"].endswith(" % of the steps' time, at most 10 %")


def test_without_one_nothing_is_said_and_no_picture_is_drawn(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    engine.add("a", 32, 4)
    engine.step()
    engine.step()
    assert engine.scorpio._tracker._table._rows == []
    engine.drain()
    assert entries(engine, tmp_path)["a"].shadow is None
    assert "shadow" not in engine.scorpio._state()


def test_a_picture_that_is_drawn_for_it_alone_fails_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(None, {"policy": "fcfs", **WATCHED})
    policy = Scripted()
    watched_by(engine, policy)

    def torn() -> Snapshot:
        raise RuntimeError("no picture")

    monkeypatch.setattr(engine.scorpio, "_snapshot", torn)
    engine.add("a", 32, 4)
    engine.drain()
    assert state(engine)["errors"] == engine.scorpio.telemetry.steps > 0
    assert (policy.seen, engine.scorpio.telemetry.fallbacks) == (None, 0)
    engine.assert_drained()
