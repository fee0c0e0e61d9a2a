"""Is it a bound? Against every schedule of tiny instances; and what should it say at all?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scorpio.core.latency import StepModel
from tests.workloads.bound_samples import A100, GAP_S, load, request
from tests.workloads.exhaustive import Exhaustive
from workloads.bound.ceiling import BoundEngine, BoundResult, upper_bound
from workloads.request import WorkloadRequest

PLENTY = BoundEngine()
MOST_STATES = 2_000


def bound(requests: list[WorkloadRequest], step: StepModel = A100) -> BoundResult:
    return upper_bound(requests, step, GAP_S, PLENTY, time_limit_s=1e6)


# -- against the truth ----------------------------------------------------------------------------


@st.composite
def step_models(draw: st.DrawFn) -> StepModel:
    pick = st.sampled_from
    return StepModel(
        base_s=draw(pick([0.1, 0.4, 1.0])),
        low_token_s=draw(pick([0.02, 0.1, 0.3])),
        high_token_s=draw(pick([0.02, 0.1, 0.4, 0.8])),
        knee_tokens=draw(pick([0, 1, 2, 3])),
        prefill_sq_s=draw(pick([0.0, 0.01, 0.1])),
        prefill_prefix_s=draw(pick([0.0, 0.01, 0.1, 0.3])),
        context_token_s=draw(pick([0.0, 0.02, 0.1, 0.5])),
    )


@st.composite
def instances(draw: st.DrawFn, most: int) -> tuple[list[WorkloadRequest], StepModel]:
    """Promises are multiples of what the request needs when alone, so that they bind."""
    step = draw(step_models())
    requests = []
    for i in range(draw(st.integers(1, most))):
        prompt, output = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        alone_s = step.base_s + prompt * step.low_token_s
        pace_s = step.base_s + step.low_token_s + step.context_token_s * prompt
        requests.append(
            request(
                i,
                draw(st.floats(0.0, 2.0)) * step.base_s if i else 0.0,
                prompt,
                output,
                alone_s * draw(st.sampled_from([1.0, 1.3, 1.7, 2.5, 4.0, math.inf])),
                pace_s * draw(st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.0, math.inf])),
                draw(st.sampled_from([math.inf, 8 * step.base_s])),
            )
        )
    return requests, step


limits = st.builds(
    BoundEngine,
    max_num_seqs=st.integers(1, 4),
    max_num_batched_tokens=st.integers(1, 7),
    kv_tokens=st.sampled_from([4, 6, 20]),
    kv_block_tokens=st.just(2),
    prefix_caching=st.booleans(),
)
grids = st.sampled_from([0.1, 0.25, 0.5, 1.0, 3.0])


def check_tiny(
    requests: list[WorkloadRequest],
    step: StepModel,
    engine: BoundEngine,
    bucket_steps: float,
    preempt: bool,
) -> None:
    truth = Exhaustive(requests, step, 0.0, engine, preempt, MOST_STATES).best()
    assume(truth is not None)
    assert truth is not None
    result = upper_bound(
        requests, step, 0.0, engine, bucket_s=bucket_steps * step.base_s, time_limit_s=1e6
    )
    assert truth <= result.good <= len(requests)
    assert result.good <= result.lp_value + 1e-5


@settings(max_examples=150, deadline=None)
@given(instances(most=3), limits, grids)
def test_no_schedule_beats_it(
    instance: tuple[list[WorkloadRequest], StepModel], engine: BoundEngine, bucket_steps: float
) -> None:
    check_tiny(*instance, engine, bucket_steps, preempt=False)


@settings(max_examples=80, deadline=None)
@given(instances(most=2), limits, grids)
def test_no_preemption_beats_it(
    instance: tuple[list[WorkloadRequest], StepModel], engine: BoundEngine, bucket_steps: float
) -> None:
    check_tiny(*instance, engine, bucket_steps, preempt=True)


def test_preemption_may_be_the_only_way() -> None:
    """Reading a context costs more here than computing it again: 0.25 s a token is met only so."""
    step = StepModel(0.1, 0.02, 0.02, 0, 0.0, 0.0, 0.5)
    requests = [request(prompt=3, output=3, tpot_s=0.25)]
    assert Exhaustive(requests, step, 0.0, PLENTY, preempt=False).best() == 0
    assert Exhaustive(requests, step, 0.0, PLENTY, preempt=True).best() == 1
    assert upper_bound(requests, step, 0.0, PLENTY, bucket_s=0.1).good == 1


@pytest.mark.parametrize("seed", range(12))
def test_no_schedule_of_long_answers_beats_it(seed: int) -> None:
    """Tiny prompts, answers of up to seven tokens: TPOT is all, so the cuts have work to do."""
    rng = np.random.default_rng(seed)
    step = StepModel(1.0, 0.1, float(rng.choice([0.1, 0.4])), 2, 0.0, 0.0, 0.02)
    requests = []
    for i in range(3):
        output = int(rng.integers(2, 8))
        pace_s = 1.1 + 0.02 * output
        requests.append(
            request(
                i,
                float(rng.uniform(0.0, 3.0)) if i else 0.0,
                1,
                output,
                pace_s * float(rng.choice([1.0, 1.5, 2.5])),
                pace_s * float(rng.choice([1.0, 1.1, 1.3, 2.0])),
            )
        )
    engine = BoundEngine(int(rng.integers(1, 4)), 8, 1000, 2)
    truth = Exhaustive(requests, step, 0.0, engine, most_states=20_000).best()
    assert truth is not None
    for bucket_s in (0.5, 1.0):
        assert upper_bound(requests, step, 0.0, engine, bucket_s=bucket_s).good >= truth


# -- what a bound should do -----------------------------------------------------------------------


def test_light_load_is_all_good() -> None:
    result = bound(load(40, rps=0.5))
    assert result.good == 40
    assert result.lp_value == pytest.approx(40.0)


def test_overload_is_seen() -> None:
    result = bound(load(60, rps=60.0))
    assert 0 < result.good < 58
    assert result.method.startswith("LP")


def test_faster_engines_and_laxer_promises_can_do_more() -> None:
    requests = load(60, rps=60.0)
    tight = bound(requests).lp_value
    lax = [replace(r, ttft_slo_s=2 * r.ttft_slo_s, tpot_slo_s=2 * r.tpot_slo_s) for r in requests]
    half = StepModel(
        A100.base_s / 2,
        A100.low_token_s / 2,
        A100.high_token_s / 2,
        A100.knee_tokens,
        A100.prefill_sq_s / 2,
        A100.prefill_prefix_s / 2,
        A100.context_token_s / 2,
    )
    assert bound(lax).lp_value > tight + 1.0
    assert bound(requests, half).lp_value > tight + 1.0


def test_no_promises_are_always_kept() -> None:
    assert bound([request(i, prompt=1000, output=100) for i in range(5)]).good == 5


def test_one_token_answers_need_only_their_prompt() -> None:
    step = StepModel(1.0, 0.0, 0.0, 0, 0.0, 0.0, 0.0)
    engine = BoundEngine(max_num_seqs=8, max_num_batched_tokens=2)
    # Prompts of two tokens, two tokens a step, three seconds: three of four can be in time.
    requests = [request(i, 0.0, 2, 1, ttft_s=3.0, tpot_s=1e-9) for i in range(4)]
    result = upper_bound(requests, step, 0.0, engine, bucket_s=0.25)
    assert result.good == 3


@pytest.mark.parametrize(
    "hopeless",
    [
        request(ttft_s=0.9),
        request(ttft_s=2.0, tpot_s=0.9),
        request(e2e_s=2.9),
        request(prompt=50, output=60),
    ],
    ids=["ttft", "tpot", "e2e", "kv"],
)
def test_one_that_cannot_be_good_alone_counts_for_nothing(hopeless: WorkloadRequest) -> None:
    step = StepModel(1.0, 0.0, 0.0, 0, 0.0, 0.0, 0.0)
    engine = BoundEngine(kv_tokens=100)
    assert upper_bound([hopeless], step, 0.0, engine).good == 0
    both = [hopeless, request(1, 50.0)]
    assert upper_bound(both, step, 0.0, engine).good == 1


def test_no_request_asked() -> None:
    result = upper_bound([], A100, GAP_S)
    assert (result.good, result.lp_value, result.method) == (0, 0.0, "no request can be good")


def test_without_time_it_says_what_an_idle_engine_can_do() -> None:
    result = upper_bound(load(60, rps=60.0), A100, GAP_S, time_limit_s=0.0)
    assert result.good <= 60
    assert result.method == "feasible on an idle engine"


def test_groups_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = load(60, rps=60.0)
    whole = bound(requests).lp_value
    monkeypatch.setattr("workloads.bound.ceiling.GROUP_REQUESTS", 20)
    parts = bound(requests).lp_value
    assert whole - 0.5 < parts <= 60.0


def test_noise_adds_an_allowance_where_the_bound_binds() -> None:
    requests = load(60, rps=60.0)
    quiet = bound(requests)
    noisy = upper_bound(requests, A100, GAP_S, noise_sigma=0.03, time_limit_s=1e6)
    assert quiet.noise_allowance == 0.0
    assert 0.0 < noisy.noise_allowance < 5.0
    assert noisy.good >= quiet.good


@pytest.mark.parametrize(
    ("change", "field"),
    [({"bucket_s": 0.0}, "bucket_s"), ({"noise_sigma": 2.0}, "noise_sigma")],
)
def test_bad_arguments_are_named(change: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        upper_bound([], A100, GAP_S, **change)  # type: ignore[arg-type]


def test_a_step_must_take_time() -> None:
    free = StepModel(0.0, 0.0, 0.0, 0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="base_s"):
        upper_bound([request()], free, 0.0)
    with pytest.raises(ValueError, match="max_num_seqs"):
        BoundEngine(max_num_seqs=0)
