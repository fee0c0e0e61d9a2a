"""In virtual time: what falls back, does each request still end once, does the ceiling hold?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest

from scorpio.core.routing.registry import ROUTERS, make_ranking
from scorpio.twin.config import TwinConfig
from scorpio.twin.fleet.config import FleetConfig
from scorpio.twin.fleet.run import FleetRun, run_fleet
from scorpio.twin.gpu.eight_bit import LINEAR_MS, TOKENS, eight_bit
from scorpio.twin.gpu.step_models import BUILT_IN
from tests.twin.driving import promised, toy_config
from tests.twin.fleet.test_fleet import crowd
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome

FIRST, FALLBACK = 2, 1
ENDS = (Outcome.FINISHED, Outcome.REJECTED)


def fast() -> TwinConfig:
    """The toy engine in half the time."""
    toy = toy_config()
    step = toy.gpu.step
    halved = replace(step, base_s=step.base_s / 2, high_token_s=step.high_token_s / 2)
    return replace(toy, gpu=replace(toy.gpu, step=halved))


def named(load: list[WorkloadRequest]) -> list[WorkloadRequest]:
    """Two classes, by their TPOT SLO."""
    return [replace(r, slo_class="tight" if r.tpot_slo_s < 0.05 else "loose") for r in load]


def serve(
    load: list[WorkloadRequest],
    shares: Mapping[str, float],
    router: str = "promises",
    **more: object,
) -> FleetRun:
    engines = (toy_config(),) * FIRST + (fast(),) * FALLBACK
    fleet = FleetConfig(
        engines, fallback=FALLBACK, fallback_shares=shares, tries=2, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return run_fleet(fleet, load, partial(make_ranking, router), "scorpio")


@pytest.mark.parametrize("router", ROUTERS)
def test_each_request_ends_once_and_a_run_is_repeated(router: str) -> None:
    load = named(crowd(200))
    run = serve(load, {"tight": 1.0, "loose": 1.0}, router)
    assert [record.index for record in run.records] == list(range(len(load)))
    assert all(record.outcome in ENDS for record in run.records)
    assert FIRST in run.went
    assert run.again > 0
    again = serve(load, {"tight": 1.0, "loose": 1.0}, router)
    assert (again.records, again.digests) == (run.records, run.digests)


def test_it_keeps_what_the_first_refuses() -> None:
    load = named(crowd(200))
    alone = serve(load, {})
    eased = serve(load, {"tight": 1.0, "loose": 1.0})
    kept = [sum(record.good for record in run.records) for run in (alone, eased)]
    assert kept[1] > 1.1 * kept[0]


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_the_ceiling_holds_for_each_class(share: float) -> None:
    load = named(crowd(400))
    run = serve(load, {"tight": share})
    by_class = {"tight": 0, "loose": 0}
    for record, went in zip(run.records, run.went, strict=True):
        served = went >= FIRST and record.outcome is Outcome.FINISHED
        by_class[record.slo_class] += served
    assert by_class["loose"] == 0
    assert 0 < by_class["tight"] <= share * sum(r.slo_class == "tight" for r in load)


def test_nothing_falls_back_at_light_load() -> None:
    load = [promised(n, 0.5 * n, 60, 10, 0.4, 0.05) for n in range(40)]
    run = serve(named(load), {"tight": 1.0, "loose": 1.0})
    assert set(run.went) <= set(range(FIRST))
    assert run.again == 0


def test_without_a_class_that_may_it_is_the_first_deployment_alone() -> None:
    load = named(crowd(120))
    beside = serve(load, {}, "round-robin")  # reports, which come at other moments, say nothing
    alone = run_fleet(
        FleetConfig((toy_config(),) * FIRST, tries=2),
        load, partial(make_ranking, "round-robin"), "scorpio",
    )  # fmt: skip
    assert (beside.records, beside.went) == (alone.records, alone.went)
    assert beside.digests[:FIRST] == alone.digests


def test_looking_for_refusals_changes_no_engine() -> None:
    load = [replace(r, on_miss="wait") for r in crowd(120)]  # none is refused
    one, two = (
        run_fleet(
            FleetConfig((toy_config(),) * FIRST, tries=tries),
            load, partial(make_ranking, "promises"), "scorpio",
        )
        for tries in (1, 2)
    )  # fmt: skip
    assert (one.records, one.digests) == (two.records, two.digests)


def test_a_refused_request_is_tried_as_often_as_it_may() -> None:
    load = [replace(r, send_s=0.4 * r.send_s) for r in crowd(200)]
    runs = [
        run_fleet(
            FleetConfig((toy_config(),) * 3, tries=tries),
            load, partial(make_ranking, "round-robin"), "scorpio",
        )
        for tries in (1, 2, 3)
    ]  # fmt: skip
    assert [run.again > 0 for run in runs] == [False, True, True]
    assert runs[2].again > runs[1].again


def test_when_the_fallback_dies_what_it_held_is_sent_again() -> None:
    load = named(crowd(200))
    run = serve(load, {"tight": 1.0, "loose": 1.0}, lost_s={FIRST: 0.8}, notice_s=0.3)
    late = [w for w, r in zip(run.went, run.records, strict=True) if r.send_s > 1.11]
    assert set(late) <= set(range(FIRST))
    assert all(r.outcome in (*ENDS, Outcome.FAILED) for r in run.records)
    assert {r.error for r in run.records if r.outcome is Outcome.FAILED} <= {"replica lost"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"fallback": 2}, r"fallback must be in \[0, 1\], got 2"),
        ({"fallback": -1}, r"fallback must be in \[0, 1\]"),
        ({"fallback_shares": {"a": 1.0}}, "fallback_shares: only with fallback >= 1"),
        ({"tries": 0}, "tries must be >= 1, got 0"),
    ],
)
def test_a_wrong_fleet_is_refused(more: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FleetConfig((toy_config(),) * 2, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LINEAR_MS)
def test_a_step_in_8_bit_saves_what_the_tables_say(name: str) -> None:
    of, wide, narrow = LINEAR_MS[name]
    model, before = eight_bit(name), BUILT_IN[of]
    for tokens, wide_ms, narrow_ms in zip(TOKENS, wide, narrow, strict=True):
        step_ms = 1e3 * before.step.step_s(0, 0.0, tokens)
        saved_ms = step_ms - 1e3 * model.step.step_s(0, 0.0, tokens)
        assert abs(saved_ms - (wide_ms - narrow_ms)) < 0.04 * step_ms
    kept = ("prefill_sq_s", "prefill_prefix_s", "context_token_s", "knee_tokens")
    assert all(getattr(model.step, one) == getattr(before.step, one) for one in kept)
    assert (model.gap_s, model.kv_blocks, model.name) == (before.gap_s, before.kv_blocks, name)
