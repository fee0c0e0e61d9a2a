"""Times of the loop against sums done by hand, at both pipeline depths."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import pytest

from scorpio.engine.virtual.build import EngineSpec
from scorpio.twin.engine.ledger import End, Entry
from scorpio.twin.engine.loop import TwinLoop
from tests.twin.driving import SMALL, arrival, drive, slo, toy_step_s

DEPTHS = [pytest.param(replace(SMALL, pipeline_depth=d), id=f"depth{d}") for d in (1, 2)]


def _entry(loop: TwinLoop, index: int) -> Entry:
    return loop.ledger.entries[f"r{index:07d}"]


@pytest.mark.parametrize("spec", DEPTHS)
def test_one_request_alone(spec: EngineSpec) -> None:
    loop = drive([arrival(0, at_s=3.0, prompt=20, output=5)], spec)
    entry = _entry(loop, 0)
    assert entry.end is End.FINISHED
    assert entry.tokens == 5
    assert entry.first_s == pytest.approx(3.0 + toy_step_s(20))
    assert entry.last_s == pytest.approx(3.0 + toy_step_s(20) + 4 * toy_step_s(1))


@pytest.mark.parametrize("spec", DEPTHS)
def test_prompt_longer_than_the_budget_is_chunked(spec: EngineSpec) -> None:
    entry = _entry(drive([arrival(0, prompt=150, output=2)], spec), 0)
    assert entry.first_s == pytest.approx(2 * toy_step_s(64) + toy_step_s(22))
    assert entry.last_s == pytest.approx(entry.first_s + toy_step_s(1))


def test_depth_1_sees_an_arrival_at_the_next_step() -> None:
    spec = replace(SMALL, pipeline_depth=1)
    first, late = arrival(0, output=10), arrival(1, at_s=0.015, prompt=30, output=2)
    entry = _entry(drive([first, late], spec), 1)
    # 0.012 s ends the first step, the second (one decode) ends at 0.023; then decode + prompt.
    assert entry.first_s == pytest.approx(toy_step_s(20) + toy_step_s(1) + toy_step_s(31))


def test_depth_2_sees_it_one_step_later() -> None:
    first, late = arrival(0, output=10), arrival(1, at_s=0.015, prompt=30, output=2)
    entry = _entry(drive([first, late]), 1)
    # When it arrives the next step is already scheduled: one more decode step goes first.
    assert entry.first_s == pytest.approx(toy_step_s(20) + 2 * toy_step_s(1) + toy_step_s(31))


@pytest.mark.parametrize("spec", DEPTHS)
def test_the_engine_sleeps_between_arrivals(spec: EngineSpec) -> None:
    loop = drive([arrival(0), arrival(1, at_s=100.0)], spec)
    assert _entry(loop, 1).first_s == pytest.approx(100.0 + toy_step_s(20))
    assert loop.steps < 20


@pytest.mark.parametrize("runner", ["v1", "v2"])
@pytest.mark.parametrize("spec", DEPTHS)
def test_exact_max_tokens_end_like_a_stop_token(
    spec: EngineSpec, runner: Literal["v1", "v2"]
) -> None:
    spec = replace(spec, model_runner=runner)
    hidden = drive([arrival(0), arrival(1, at_s=0.02)], spec)
    exact = drive([arrival(0, max_tokens=5), arrival(1, at_s=0.02, max_tokens=5)], spec)
    for index in (0, 1):
        assert _entry(exact, index).tokens == 5
        assert _entry(exact, index).first_s == pytest.approx(_entry(hidden, index).first_s)


@pytest.mark.parametrize("runner", ["v1", "v2"])
@pytest.mark.parametrize("spec", DEPTHS)
def test_tiny_kv_preempts_and_still_serves_all(
    spec: EngineSpec, runner: Literal["v1", "v2"]
) -> None:
    spec = replace(spec, num_blocks=12, model_runner=runner)
    loop = drive([arrival(i, at_s=0.001 * i, prompt=40, output=40) for i in range(6)], spec)
    assert loop.preemptions > 0
    assert {e.end for e in loop.ledger.entries.values()} == {End.FINISHED}
    assert loop.preemptions == sum(e.preemptions for e in loop.ledger.entries.values())


@pytest.mark.parametrize("spec", DEPTHS)
def test_shared_prefixes_are_computed_once(spec: EngineSpec) -> None:
    spec = replace(spec, enable_prefix_caching=True, num_blocks=400, max_num_batched_tokens=2048)
    spec = replace(spec, max_model_len=4096)
    same = [arrival(i, at_s=i, prompt=1100, prefix_ids=(7, 8, 9 + i)) for i in range(3)]
    loop = drive(same, spec)
    assert [_entry(loop, i).cached_tokens for i in range(3)] == [0, 1024, 1024]
    assert _entry(loop, 2).first_s == pytest.approx(2.0 + toy_step_s(76))
    others = [arrival(i, at_s=i, prompt=1100, prefix_ids=(3 * i, 3 * i + 1)) for i in range(3)]
    assert sum(e.cached_tokens for e in drive(others, spec).ledger.entries.values()) == 0
    unnamed = [arrival(i, at_s=i, prompt=1100) for i in range(3)]
    assert sum(e.cached_tokens for e in drive(unnamed, spec).ledger.entries.values()) == 0


def test_prefix_ids_do_nothing_without_prefix_caching() -> None:
    spec = replace(SMALL, max_model_len=4096, num_blocks=400)
    loop = drive([arrival(i, at_s=i, prompt=1100, prefix_ids=(7, 8, 9)) for i in range(2)], spec)
    assert sum(e.cached_tokens for e in loop.ledger.entries.values()) == 0


@pytest.mark.parametrize("spec", DEPTHS)
def test_without_chunked_prefill_prompts_are_whole(spec: EngineSpec) -> None:
    spec = replace(spec, enable_chunked_prefill=False, max_num_batched_tokens=256)
    load = [arrival(i, at_s=0.002 * i, prompt=100 + i, output=8) for i in range(9)]
    loop = drive(load, spec)
    assert {e.end for e in loop.ledger.entries.values()} == {End.FINISHED}
    in_steps = [int(line.split()[4]) for line in loop.log.lines or () if " step " in line]
    assert sum(in_steps) == sum(a.prompt_tokens for a in load)
    whole = {a.prompt_tokens for a in load}
    whole |= {a + b for a in whole for b in whole}
    assert set(in_steps) - {0} <= whole
    too_long = drive([arrival(0, prompt=300)], spec)
    assert _entry(too_long, 0).end is End.INVALID


@pytest.mark.parametrize("spec", DEPTHS)
def test_what_can_never_fit_is_answered_at_the_door(spec: EngineSpec) -> None:
    load = [arrival(0, prompt=1020, output=5), arrival(1), arrival(2, prompt=959, output=1)]
    loop = drive(load, spec)
    assert [_entry(loop, i).end for i in range(3)] == [End.INVALID, End.FINISHED, End.FINISHED]


def test_queue_cap_counts_prompts_without_a_first_token() -> None:
    spec = replace(SMALL, max_num_queued_tokens=100)
    loop = drive([arrival(i, prompt=60) for i in range(4)] + [arrival(4, at_s=5.0)], spec)
    # 0 + 60 < 100 admits the second, 120 >= 100 turns the next two away; later all is calm.
    ends = [_entry(loop, i).end for i in range(5)]
    away, done = End.TURNED_AWAY, End.FINISHED
    assert ends == [done, done, away, away, done]
    assert loop.ledger.refused == 2


def test_request_cap_counts_the_unfinished() -> None:
    spec = replace(SMALL, max_num_queued_reqs=2)
    loop = drive([arrival(i) for i in range(3)] + [arrival(3, at_s=5.0)], spec)
    away, done = End.TURNED_AWAY, End.FINISHED
    assert [_entry(loop, i).end for i in range(4)] == [done, done, away, done]


def test_priority_policy_serves_the_earlier_deadline_first() -> None:
    spec = replace(SMALL, max_num_seqs=1, policy="priority", pipeline_depth=1)
    load = [arrival(0), arrival(1, slo=slo(60.0)), arrival(2, slo=slo(1.0))]
    loop = drive(load, spec)
    assert _entry(loop, 2).first_s < _entry(loop, 1).first_s


def test_long_prefill_threshold_leaves_room_for_short_prompts() -> None:
    spec = replace(SMALL, long_prefill_token_threshold=16)
    load = [arrival(0, prompt=600), arrival(1, at_s=0.001, prompt=8)]
    assert _entry(drive(load, spec), 1).first_s < _entry(drive(load), 1).first_s
    adaptive = replace(spec, long_prefill_token_threshold_adaptive=True)
    assert _entry(drive(load, adaptive), 0).first_s < _entry(drive(load, spec), 0).first_s


def test_timeline_has_at_most_one_sample_per_period() -> None:
    loop = drive([arrival(i, at_s=0.5 * i) for i in range(10)])
    times = [s["t_s"] for s in loop.timeline.samples]
    assert len(times) >= 4
    assert all(b - a >= 1.0 for a, b in pairwise(times))
