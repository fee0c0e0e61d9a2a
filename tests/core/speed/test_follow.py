"""Is a lasting change followed, whichever part of a step it hits, and nothing else?"""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorpio.core.latency import StepModel
from scorpio.core.snapshot import StepSample
from scorpio.core.speed.follow import EngineSpeed
from scorpio.core.speed.rls import LEAST, MOST

MODEL = StepModel(0.01, 2e-5, 8e-5, 256.0, 1e-9, 1e-9, 2e-8)
NOISE = 0.03
FIRST = 20  # steps in which one factor is all that is followed


def step(
    rng: np.random.Generator, true: StepModel, noise: float = NOISE, prefills: float = 0.4
) -> StepSample:
    """A random mixed step of an engine of this speed; rarely a stall."""
    decodes, context = int(rng.integers(1, 128)), int(rng.integers(100, 400_000))
    prefill = int(rng.integers(0, 2048)) * int(rng.random() < prefills)
    made = StepSample(prefill, float(prefill**2), 0.0, decodes, context, 0.0)
    stall_s = 0.5 * float(rng.random() < 1e-3)
    return replace(made, duration_s=true.sample_s(made) * rng.lognormal(0.0, noise) + stall_s)


def run(true: StepModel, steps: int, speed: EngineSpeed, seed: int = 0) -> list[float]:
    """Errors of predictions, each one step ahead."""
    rng, errors = np.random.default_rng(seed), []
    for _ in range(steps):
        sample = step(rng, true)
        predicted_s = speed.model().sample_s(sample)
        errors.append(abs(predicted_s / sample.duration_s - 1.0))
        speed.observe(sample)
    return errors


def times(**factors: float) -> StepModel:
    """The model with some coefficients changed."""
    return replace(MODEL, **{name: getattr(MODEL, name) * f for name, f in factors.items()})


def everything(factor: float) -> StepModel:
    names = [name for name in MODEL.__slots__ if name != "knee_tokens"]
    return times(**dict.fromkeys(names, factor))


def multipliers(speed: EngineSpeed) -> list[float]:
    found, profile = astuple(speed.model()), astuple(MODEL)
    return [a / b for n, (a, b) in enumerate(zip(found, profile, strict=True)) if n != 3]


CHANGES = {
    "all slower": everything(1.3),
    "all faster": everything(0.7),
    "prefill": times(high_token_s=1.3),
    "context": times(context_token_s=2.0),
    "base and context": times(base_s=2.0, context_token_s=0.5),
}


def test_the_noise_itself_is_not_learned() -> None:
    rng = np.random.default_rng(0)
    seen = [step(rng, MODEL) for _ in range(3000)]
    noise = np.mean([abs(MODEL.sample_s(made) / made.duration_s - 1.0) for made in seen])
    assert 0.02 < noise < np.mean(run(MODEL, 3000, EngineSpeed(MODEL))) < 1.04 * noise


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_followed_to_the_noise(name: str) -> None:
    true, speed = CHANGES[name], EngineSpeed(MODEL)
    run(MODEL, 500, speed)
    assert np.mean(run(true, 20, speed, 1)) > 0.05
    run(true, 800, speed, 2)
    assert np.mean(run(true, 1000, speed, 3)) < 0.027


def test_a_changed_coefficient_is_told_from_the_others() -> None:
    speed = EngineSpeed(MODEL)
    run(times(high_token_s=1.5, context_token_s=2.0), 1500, speed)
    model = speed.model()
    assert model.high_token_s == pytest.approx(1.5 * MODEL.high_token_s, rel=0.1)
    assert model.context_token_s == pytest.approx(2.0 * MODEL.context_token_s, rel=0.15)
    assert model.base_s == pytest.approx(MODEL.base_s, rel=0.1)
    assert model.knee_tokens == MODEL.knee_tokens


def test_terms_never_seen_stay_at_the_profile_times_the_factor() -> None:
    speed, rng = EngineSpeed(MODEL), np.random.default_rng(0)
    for _ in range(1000):
        speed.observe(step(rng, times(context_token_s=2.0), prefills=0.0))
    _, _, high, sq, prefix, context = multipliers(speed)
    assert [high, sq, prefix] == pytest.approx([speed.factor] * 3, rel=0.01)
    assert 1.0 < speed.factor < 1.8 < context


def test_no_coefficient_turns_negative_where_the_best_fit_would() -> None:
    speed, rng = EngineSpeed(MODEL), np.random.default_rng(0)
    for _ in range(1000):
        sample = step(rng, MODEL, noise=0.0, prefills=0.0)
        ctx_s = MODEL.context_token_s * sample.decode_context_tokens
        speed.observe(replace(sample, duration_s=2.0 * MODEL.base_s - 0.8 * ctx_s))
        assert all(LEAST <= value <= MOST for value in multipliers(speed))
    assert multipliers(speed)[5] == LEAST


def plain(ratio: float) -> StepSample:
    """A step of decodes that takes so many times what the profile says."""
    return StepSample(0, 0.0, 0.0, 8, 1000, MODEL.step_s(8, 1000) * ratio)


@pytest.mark.parametrize("ratio", [5.0, 100.0, 0.2, 0.0, float("nan"), float("inf")])
def test_rare_stalls_are_no_evidence(ratio: float) -> None:
    speed = EngineSpeed(MODEL)
    for number in range(1000):
        speed.observe(plain(ratio if number % 20 == 0 else 1.0))
    assert multipliers(speed) == pytest.approx([1.0] * 6)
    assert not speed.rebased


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.24, 0.3, 3.9, 4.1, 8.0, 50.0])
def test_an_engine_far_off_its_profile_is_followed_within_a_second_or_two(ratio: float) -> None:
    speed = EngineSpeed(MODEL)
    for _ in range(100):
        speed.observe(plain(ratio))
    predicted_s = speed.model().step_s(8, 1000)
    assert predicted_s == pytest.approx(MODEL.step_s(8, 1000) * ratio, rel=0.1)
    for _ in range(300):  # and back again
        speed.observe(plain(1.0))
    assert speed.model().step_s(8, 1000) == pytest.approx(MODEL.step_s(8, 1000), rel=0.1)


@pytest.mark.parametrize("true", [everything(8.0), everything(0.1), times(high_token_s=10.0)])
def test_a_profile_of_another_machine_is_left_behind(true: StepModel) -> None:
    """All terms, or the one of prefills alone, which are two steps of five."""
    speed = EngineSpeed(MODEL)
    run(true, 600, speed)
    assert np.mean(run(true, 1000, speed, 1)) < 0.06


@pytest.mark.parametrize("ratio", [0.0, float("nan"), float("inf"), 1e6, 1e-6])
def test_a_broken_clock_is_no_evidence_however_often(ratio: float) -> None:
    speed = EngineSpeed(MODEL)
    for _ in range(1000):
        speed.observe(plain(ratio))
    assert speed.model() == MODEL


def test_a_rare_outlier_within_reason_moves_the_factor_alone() -> None:
    with_it, without = EngineSpeed(MODEL), EngineSpeed(MODEL)
    for speed in (with_it, without):
        run(MODEL, 500, speed)
    odd = StepSample(0, 0.0, 0.0, 8, 1000, MODEL.step_s(8, 1000) * 3.0)
    with_it.observe(odd)
    assert with_it.factor > without.factor + 0.03
    assert with_it.model() == without.model()


def test_while_it_warms_up_one_factor_is_all() -> None:
    speed, rng = EngineSpeed(MODEL), np.random.default_rng(0)
    for _ in range(FIRST):
        speed.observe(step(rng, times(context_token_s=3.0)))
        assert multipliers(speed) == pytest.approx([speed.factor] * 6)
    run(times(context_token_s=3.0), 5, speed)
    assert len(set(np.round(multipliers(speed), 3))) > 1


def test_the_first_steps_after_an_idle_time_teach_the_factor_alone() -> None:
    speed, rng = EngineSpeed(MODEL), np.random.default_rng(1)
    run(MODEL, 500, speed)
    before, factor = speed.model(), speed.factor
    for number in range(3):
        slow = step(rng, everything(1.1), noise=0.0)
        speed.observe(replace(slow, woken=number == 0))
        assert speed.model() == before
    assert speed.factor > factor
    speed.observe(step(rng, everything(1.1), noise=0.0))
    assert speed.model() != before


def alike(share: float, ratio: float) -> StepSample:
    """A decode step in which context takes this share of the profile's time, executed `ratio`."""
    context = round(share / (1.0 - share) * (MODEL.base_s + MODEL.low_token_s) / 2e-8)
    return StepSample(0, 0.0, 0.0, 1, context, MODEL.step_s(1, context) * ratio)


def test_a_false_lesson_ends_at_the_profile_times_the_factor() -> None:
    """Steps of like shares and a steep slope between them: true there, nonsense further off."""
    speed, rng = EngineSpeed(MODEL), np.random.default_rng(0)
    for share in rng.uniform(0.4, 0.6, 1000).tolist():
        speed.observe(alike(share, 1.0 + 3.0 * (0.5 - share)))
    assert speed.floors == 0
    assert multipliers(speed)[5] < 0.6
    while not speed.floors:
        speed.observe(alike(0.9, 1.0))
    assert multipliers(speed) == pytest.approx([speed.factor] * 6)
    assert speed.factor == pytest.approx(1.0, abs=0.05)


def test_fed_garbage_it_is_hardly_worse_than_one_factor() -> None:
    speed, rng, errors = EngineSpeed(MODEL), np.random.default_rng(0), []
    for _ in range(3000):
        made = step(rng, MODEL, noise=0.0)
        garbage = replace(made, duration_s=MODEL.sample_s(made) * float(rng.uniform(0.3, 3.5)))
        floor_s = speed.factor * MODEL.sample_s(garbage)
        found_s = speed.model().sample_s(garbage)
        errors.append([abs(s / garbage.duration_s - 1.0) for s in (found_s, floor_s)])
        speed.observe(garbage)
    ours, floor = np.mean(errors, axis=0)
    assert ours < 1.1 * floor


@pytest.mark.parametrize("seed", [0, 1])
def test_nine_steps_of_ten_stay_below_the_margin_of_their_regime(seed: int) -> None:
    """Three times the noise above the knee."""
    speed, rng = EngineSpeed(MODEL), np.random.default_rng(seed)
    below: dict[bool, list[bool]] = {False: [], True: []}
    for _ in range(6000):
        sample = step(rng, MODEL, noise=0.0)
        tokens = sample.prefill_tokens + sample.num_decodes
        above = tokens > MODEL.knee_tokens
        noise = float(rng.lognormal(0.0, 3 * NOISE if above else NOISE))
        sample = replace(sample, duration_s=sample.duration_s * noise)
        most_s = speed.margin(tokens) * speed.model().sample_s(sample)
        below[above].append(sample.duration_s <= most_s)
        speed.observe(sample)
    for covered in below.values():
        assert np.mean(covered[200:]) == pytest.approx(0.9, abs=0.03)
    assert speed.margin(10) < speed.margin(2000) - 0.03


def test_a_profile_that_says_nothing_stays_as_it_is() -> None:
    free = StepModel(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    speed = EngineSpeed(free)
    speed.observe(StepSample(0, 0.0, 0.0, 8, 1000, 0.1))
    assert speed.model() == free
    assert speed.margin(8) == 1.0


def test_the_same_steps_make_the_same_model() -> None:
    first, second = EngineSpeed(MODEL), EngineSpeed(MODEL)
    for speed in (first, second):
        run(CHANGES["base and context"], 300, speed)
    assert first.model() == second.model()
    assert first.margin(1) == second.margin(1)


COST = st.one_of(st.just(0.0), st.floats(1e-12, 1e3))
COUNT = st.integers(0, 10**7)
SAMPLES = st.builds(
    StepSample,
    COUNT,
    st.floats(0.0, 1e300),
    st.floats(0.0, 1e14),
    COUNT,
    COUNT,
    st.one_of(st.floats(0.0, 1e3), st.floats(allow_nan=True)),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(
    costs=st.tuples(*[COST] * 3, st.floats(0.0, 1e4), *[COST] * 3),
    samples=st.lists(SAMPLES, max_size=30),
    ratios=st.lists(st.floats(0.2, 5.0), min_size=1, max_size=8),
)
def test_whatever_is_seen_the_model_is_finite_and_near_the_profile(
    costs: tuple[float, ...], samples: list[StepSample], ratios: list[float]
) -> None:
    """Steps as they come, and the same ones within reason of their prediction."""
    profile = StepModel(*costs)
    speed = EngineSpeed(profile)
    for number, sample in enumerate(samples + samples * 4):
        if number >= len(samples):
            ratio = ratios[number % len(ratios)]
            sample = replace(sample, duration_s=ratio * profile.sample_s(sample))
        speed.observe(sample)
        found = speed.model()  # checks by itself that all is finite and >= 0
        for name in profile.__slots__:
            static = getattr(profile, name)
            assert 0.999 * LEAST * static <= getattr(found, name) <= 1.001 * MOST * static
        for tokens in (0, 1e9):
            assert 1.0 <= speed.margin(tokens) <= 2.0


def test_speed_is_known_after_twenty_steps() -> None:
    speed, made = EngineSpeed(MODEL), StepSample(0, 0.0, 0.0, 10, 1000, 0.0)
    known = []
    for _ in range(FIRST + 1):
        known.append(speed.known)
        speed.observe(replace(made, duration_s=MODEL.sample_s(made)))
    assert known == [False] * FIRST + [True]
