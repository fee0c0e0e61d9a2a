"""Does every schedule obey the rows, and do the rows say what they claim?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.latency import StepModel
from tests.workloads.bound_samples import A100, GAP_S, load, request
from tests.workloads.random_schedule import random_schedule
from workloads.bound.ceiling import BoundEngine, upper_bound
from workloads.bound.cuts import Separator, Star, add
from workloads.bound.demand import StepCost, demands, reusable_tokens
from workloads.bound.lp import LinearProgram
from workloads.bound.rows import Grid, build, windows_on

PLENTY = BoundEngine()


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_schedule_is_a_feasible_point(seed: int, caching: bool) -> None:
    """Its steps and first tokens, put into the programme with random cuts, leave room for all of
    its good requests."""
    rng = np.random.default_rng(seed)
    requests = [
        replace(r, ttft_slo_s=r.ttft_slo_s * 2, tpot_slo_s=r.tpot_slo_s * 1.2)
        for r in load(60, 14.0, seed)
    ]
    engine = BoundEngine(16, 512, 12_000, 16, caching)
    schedule = random_schedule(requests, A100, GAP_S, engine, rng)
    good = schedule.good(requests)
    assert 0 < len(good) < len(requests)

    kept = [requests[i] for i in good]
    able = demands(kept, A100, GAP_S, engine)
    assert len(able) == len(kept)  # none that was good is called hopeless
    end_s = max(d.end_deadline_s for d in able)
    grid = Grid(0.5, math.floor(end_s / 0.5) + 1, 4)
    windows = windows_on(grid, able)
    model = build(windows, grid, StepCost.of(A100, GAP_S), engine)
    by_height = sorted(range(len(able)), key=lambda i: -able[i].decodes)
    for _ in range(200):
        u, length = int(rng.integers(grid.buckets)), int(rng.integers(1, 40))
        members = tuple(i for i in by_height if rng.random() < 0.3)
        add(model, Star(u * 0.5, min(u + length, grid.buckets) * 0.5, members))
    for b, column in enumerate(model.steps):
        count = sum(
            max(0.0, min(end, (b + 1) * 0.5) - max(start, b * 0.5)) / (end - start)
            for start, end in schedule.steps
        )
        _fix(model.lp, column, count)
    for number, i in enumerate(good):
        bucket = grid.bucket(schedule.served[i].times_s[0])
        w = model.window[number]
        for f in range(w.first_from, w.first_to + 1):
            _fix(model.lp, model.first[number][f - w.first_from], float(f == bucket))
    solution = model.lp.solve(1e6)
    assert solution is not None
    assert solution.value >= len(good) - 1e-4


def _fix(lp: LinearProgram, column: int, value: float) -> None:
    lp.at_most([(column, 1.0)], value + 1e-6)
    lp.at_most([(column, -1.0)], -value + 1e-6)


def chunkings(tokens: int, longest: int) -> Iterator[list[int]]:
    if tokens == 0:
        yield []
    for n in range(1, min(tokens, longest) + 1):
        for rest in chunkings(tokens - n, longest):
            yield [n, *rest]


@pytest.mark.parametrize(("sq", "prefix"), [(0.01, 0.01), (0.01, 0.03), (0.0, 0.02), (0.05, 0.0)])
@pytest.mark.parametrize("budget", [1, 3, 7])
def test_no_chunking_pays_less_attention(sq: float, prefix: float, budget: int) -> None:
    step = StepModel(1.0, 0.1, 0.1, 0, sq, prefix, 0.0)
    engine = BoundEngine(max_num_batched_tokens=budget)
    for prompt in range(1, 8):
        (demand,) = demands([request(prompt=prompt, output=1)], step, 0.0, engine)
        costs = []
        for chunks in chunkings(prompt, budget):
            before = np.cumsum([0, *chunks[:-1]])
            costs.append(
                sum(sq * n * n + prefix * n * p for n, p in zip(chunks, before, strict=True))
            )
        assert demand.more_attention_s <= min(costs) + 1e-12
        if sq >= prefix / 2.0:
            assert demand.more_attention_s == pytest.approx(min(costs))


@given(
    st.floats(0.0, 20.0),
    st.floats(0.1, 5.0),
    st.integers(1, 50),
    st.floats(0.01, 0.2),
    st.floats(0.1, 3.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_windows_hold_every_token_in_time(
    send_s: float,
    ttft_s: float,
    output: int,
    tpot_s: float,
    bucket_s: float,
    first: float,
    last: float,
) -> None:
    step = StepModel(1e-6, 0.0, 0.0, 0, 0.0, 0.0, 0.0)
    asked = request(0, send_s, 1, output, ttft_s, tpot_s)
    (demand,) = demands([asked], step, 0.0, PLENTY)
    grid = Grid(bucket_s, 1000, 1)
    (w,) = windows_on(grid, [demand])
    first_s = send_s + 1e-6 + first * (ttft_s - 1e-6)
    last_s = first_s + last * (output - 1) * tpot_s
    assert w.first_from <= grid.bucket(first_s) <= w.first_to
    # A step belongs to the buckets it overlaps: one that ends on an edge, to those before.
    assert math.ceil(last_s / bucket_s) - 1 <= w.last(grid.bucket(first_s))
    assert w.begin * bucket_s <= send_s


@pytest.mark.parametrize(("kv_tokens", "good"), [(260, 2), (130, 1)])
def test_contexts_read_in_one_step_fit_the_kv_cache(kv_tokens: int, good: int) -> None:
    step = StepModel(1.0, 0.0, 0.0, 0, 0.0, 0.0, 0.0)
    requests = [request(i, 0.0, 100, 20, ttft_s=2.0, tpot_s=1.1) for i in range(2)]
    engine = BoundEngine(kv_tokens=kv_tokens)
    result = upper_bound(requests, step, 0.0, engine, bucket_s=0.1)
    assert result.good == good


def test_cuts_only_tighten() -> None:
    requests = load(60, rps=40.0)
    engine, cost = PLENTY, StepCost.of(A100, GAP_S)
    able = demands(requests, A100, GAP_S, engine)
    grid = Grid(0.5, math.floor(max(d.end_deadline_s for d in able) / 0.5) + 1, 4)
    windows = windows_on(grid, able)
    model = build(windows, grid, cost, engine)
    loose = model.lp.solve(1e6)
    assert loose is not None
    stars = Separator(model).find(loose.x, 0.5)
    assert stars
    for star in stars:
        add(model, star)
    tight = model.lp.solve(1e6)
    assert tight is not None
    assert tight.value < loose.value - 0.1


def test_a_shared_prefix_is_charged_to_the_one_sent_first() -> None:
    requests = [
        request(0, 2.0, 1500, 2, hash_ids=(7, 8, 9)),
        request(1, 1.0, 1100, 2, hash_ids=(7, 8, 5)),
        request(2, 3.0, 1024, 2, hash_ids=(7, 8)),
    ]
    assert reusable_tokens(requests) == [1024, 0, 1023]


def test_a_shared_prefix_is_as_long_as_its_blocks() -> None:
    requests = [request(i, float(i), 1500, 2, hash_ids=(7, 8)) for i in range(2)]
    assert reusable_tokens([replace(r, block_tokens=16) for r in requests]) == [0, 32]


def test_an_unbounded_column_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        LinearProgram().variable(math.inf)
