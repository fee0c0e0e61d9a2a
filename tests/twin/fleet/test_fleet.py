"""Are N schedulers behind a router N schedulers, and is every request answered by one of them?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.registry import ROUTERS, make_ranking
from scorpio.core.routing.router import Ranking
from scorpio.core.slo import XARG_FIELDS
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.studies.fleet import FleetScore
from scorpio.twin.fleet.config import FleetConfig
from scorpio.twin.fleet.replica import FleetReplica
from scorpio.twin.fleet.run import FleetRun, run_fleet
from scorpio.twin.run import PolicyFailed, run_twin
from scorpio.twin.translate import arrivals
from tests.twin.driving import promised, toy_config
from workloads.load import LoadKey
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome

FIRST_SEED = 10_007  # of the first replica's noise, when the fleet's is 0


def crowd(count: int = 120, seed: int = 0) -> list[WorkloadRequest]:
    """Two classes, more than two toy engines can keep all promises of."""
    rng = np.random.default_rng(seed)
    return [
        promised(
            number, 0.01 * number, int(rng.integers(20, 120)), int(rng.integers(2, 30)),
            0.4, (0.02, 0.1)[number % 2],
        )
        for number in range(count)
    ]  # fmt: skip


def by_name(router: str) -> Callable[[FleetView], Ranking]:
    return lambda view: make_ranking(router, view)


def fleet_of(count: int, **more: object) -> FleetConfig:
    return FleetConfig((toy_config(),) * count, **more)  # type: ignore[arg-type]


def serve(
    fleet: FleetConfig,
    load: list[WorkloadRequest],
    router: str = "promises",
    policy: str = "scorpio",
) -> FleetRun:
    return run_fleet(fleet, load, by_name(router), policy)


@pytest.mark.parametrize("policy", ["scorpio", "qoserve", "fcfs"])
def test_a_fleet_of_one_is_a_plain_run(policy: str) -> None:
    load = crowd(60)
    fleet = serve(fleet_of(1, delay_s=0.0), load, policy=policy)
    plain = run_twin(toy_config(), load, policy, FIRST_SEED)
    assert fleet.records == plain.records
    assert fleet.digests == (plain.event_digest,)


@pytest.mark.parametrize("router", ROUTERS)
def test_each_request_is_answered_once_by_one_replica(router: str) -> None:
    load = crowd()
    run = serve(fleet_of(3), load, router)
    assert [record.index for record in run.records] == list(range(len(load)))
    assert all(r.outcome in (Outcome.FINISHED, Outcome.REJECTED) for r in run.records)
    assert set(run.went) <= {0, 1, 2}
    again = serve(fleet_of(3), load, router)
    assert again.records == run.records
    assert again.digests == run.digests


@pytest.mark.parametrize("mix", ["six", "product"])
def test_keeping_tight_apart_keeps_more_promises(mix: str) -> None:
    load = LoadKey("azure-conv-synth", "0:800", mix, 16.0, 0)  # 2.0 for each of eight A100
    kept = {
        router: FleetScore(router, "scorpio", load, 8).run()["good"].count("1")
        for router in ("promises", "round-robin")
    }
    assert kept["promises"] > kept["round-robin"]


def test_the_way_there_and_back_is_the_clients_time() -> None:
    load = [promised(0, 1.0, 20, 5, 0.5, 0.1)]
    (near,) = serve(fleet_of(1, delay_s=0.0), load).records
    (far,) = serve(fleet_of(1, delay_s=0.1), load).records
    assert far.send_s == near.send_s == 1.0
    assert near.ttft_s is not None
    assert far.ttft_s == pytest.approx(near.ttft_s + 0.2)
    assert far.ttft_slo_s == 0.5


def test_a_replica_is_told_what_is_left_of_the_ttft() -> None:
    (sent,) = arrivals([promised(0, 1.0, 20, 5, 0.5, 0.1)], toy_config(), 0)
    replica = FleetReplica.make(0, toy_config(), "scorpio", 0, [promised(0, 1.0, 20, 5, 0.5, 0.1)])
    replica.send(sent, 1.2)
    (got,) = replica._sent
    assert got.arrival_s == 1.2
    assert got.slo.ttft_s == pytest.approx(0.3)
    assert got.xargs[XARG_FIELDS[0]] == pytest.approx(300.0)
    assert got.slo.tpot_s == sent.slo.tpot_s


def test_a_load_is_what_runs_and_waits() -> None:
    load = [promised(number, 0.0, 100, 20, 5.0, 0.05) for number in range(12)]
    replica = FleetReplica.make(0, toy_config(), "scorpio", 0, load)
    for sent in arrivals(load, toy_config(), 0):
        replica.send(sent, 0.0)
    replica.loop.advance(0.1)
    told = replica.load(0.1)
    assert told is not None
    scheduler = replica.loop.scheduler
    assert isinstance(scheduler, VirtualScorpioScheduler)
    assert (told.running, told.waiting) == (len(scheduler.running), len(scheduler.waiting))
    assert told.running + told.waiting == 12
    computed = sum(min(r.num_computed_tokens, 100) for r in scheduler.running)
    assert sum(told.prefill_tokens) == 1200 - computed
    assert told.batch == ((0.05, told.running),)
    assert told.context_tokens >= computed
    assert told == scheduler.load(0.1)


def test_what_a_dead_replica_held_is_answered_by_another_or_fails() -> None:
    load = [promised(number, 0.02 * number, 60, 20, 30.0, 1.0) for number in range(80)]
    run = serve(fleet_of(2, lost_s={0: 0.8}, notice_s=0.3), load, "round-robin")
    failed = [r for r in run.records if r.outcome is Outcome.FAILED]
    assert {r.error for r in failed} == {"replica lost"}
    assert all(r.first_token_s is not None and r.first_token_s <= 0.82 for r in failed)
    assert run.resent > 0
    assert sum(r.outcome is Outcome.FINISHED for r in run.records) == 80 - len(failed)
    late = [number for number, r in zip(run.went, run.records, strict=True) if r.send_s > 1.11]
    assert set(late) == {1}


def test_when_all_are_dead_that_is_said() -> None:
    load = [promised(number, 0.1 * number, 20, 5) for number in range(20)]
    run = serve(fleet_of(1, lost_s={0: 0.5}, notice_s=0.2), load, "least-loaded")
    assert {r.error for r in run.records if r.outcome is Outcome.FAILED} == {"no replica"}
    assert run.went[-1] == -1


def test_a_replica_that_warms_up_gets_nothing_before() -> None:
    load = [promised(number, 0.05 * number, 20, 5) for number in range(60)]
    run = serve(fleet_of(2, joins_s={1: 1.5}), load, "least-loaded")
    sent = {number: [r.send_s for r, w in zip(run.records, run.went, strict=True) if w == number]
            for number in (0, 1)}  # fmt: skip
    assert min(sent[1]) >= 1.5
    assert sent[0]


def test_a_replica_that_leaves_finishes_what_it_has() -> None:
    load = [promised(number, 0.05 * number, 20, 40) for number in range(60)]
    run = serve(fleet_of(2, leaves_s={1: 1.5}), load, "least-loaded")
    mine = [r for r, went in zip(run.records, run.went, strict=True) if went == 1]
    assert mine
    assert max(r.send_s for r in mine) < 1.5
    assert all(r.outcome is Outcome.FINISHED for r in mine)
    assert max(r.ended_s or 0.0 for r in mine) > 1.5


def test_engines_may_differ() -> None:
    slow = toy_config()
    gpu = replace(slow.gpu, step=replace(slow.gpu.step, base_s=0.05))
    fleet = FleetConfig((replace(slow, gpu=gpu), toy_config()))
    run = serve(fleet, crowd(200))
    counts = np.bincount(run.went, minlength=2)
    assert counts[1] > counts[0]


def test_a_policy_that_fails_voids_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Scorpio, "plan", broken)
    with pytest.raises(PolicyFailed, match="scorpio failed in"):
        serve(fleet_of(2), crowd(4))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"report_s": 0.0}, "report_s must be finite and > 0, got 0.0"),
        ({"notice_s": float("inf")}, "notice_s must be finite"),
        ({"delay_s": -1.0}, "delay_s must be finite and >= 0"),
        ({"lost_s": {3: 1.0}}, "no replica 3 in a fleet of 2"),
        ({"leaves_s": {2: 1.0}}, "no replica 2 in a fleet of 2"),
        ({"joins_s": {-1: 1.0}}, "no replica -1 in a fleet of 2"),
    ],
)
def test_a_wrong_fleet_is_refused(more: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fleet_of(2, **more)


def test_a_fleet_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="one engine or more"):
        FleetConfig(())
