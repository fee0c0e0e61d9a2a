"""Does one speed factor follow a lasting change, and nothing else?"""

from __future__ import annotations

import numpy as np
import pytest

from scorpio.core.calibration import Calibration
from scorpio.core.latency import StepModel
from scorpio.core.views import StepSample

MODEL = StepModel(0.01, 2e-5, 8e-5, 256.0, 1e-9, 1e-9, 2e-8)


def step(rng: np.random.Generator, speed: float) -> StepSample:
    """A random mixed step with 3 % noise and, rarely, a stall."""
    decodes, context = int(rng.integers(1, 128)), int(rng.integers(100, 200_000))
    prefill = int(rng.integers(0, 2048)) * int(rng.random() < 0.4)
    exact_s = MODEL.step_s(decodes, context, prefill, prefill**2, 0.0)
    stall_s = 0.5 * float(rng.random() < 1e-3)
    noise = float(rng.lognormal(0.0, 0.03))
    return StepSample(
        prefill, float(prefill**2), 0.0, decodes, context, exact_s * speed * noise + stall_s
    )


def error(calibration: Calibration, sample: StepSample) -> float:
    predicted_s = calibration.model().sample_s(sample)
    return predicted_s / sample.duration_s - 1.0


def run(speed: float, seconds: float, calibration: Calibration) -> list[float]:
    """Errors of one-step-ahead predictions over so many virtual seconds."""
    rng, now_s, errors = np.random.default_rng(0), 0.0, []
    while now_s < seconds:
        sample = step(rng, speed)
        errors.append(abs(error(calibration, sample)))
        calibration.observe(sample)
        now_s += sample.duration_s
    return errors


def test_noisy_steps_are_predicted_within_five_percent() -> None:
    assert np.mean(run(1.0, 60.0, Calibration(MODEL))) < 0.05


@pytest.mark.parametrize("speed", [1.3, 0.7])
def test_a_change_of_speed_is_followed_within_a_minute(speed: float) -> None:
    calibration = Calibration(MODEL)
    run(1.0, 20.0, calibration)
    assert error(calibration, step(np.random.default_rng(1), speed)) != pytest.approx(0.0, abs=0.1)
    run(speed, 60.0, calibration)
    assert calibration.factor == pytest.approx(speed, rel=0.05)
    assert np.mean(run(speed, 20.0, calibration)) < 0.05


@pytest.mark.parametrize("ratio", [5.0, 100.0, 0.2, 0.0])
def test_stalls_are_no_evidence(ratio: float) -> None:
    calibration = Calibration(MODEL)
    for _ in range(1000):
        calibration.observe(StepSample(0, 0.0, 0.0, 8, 1000, MODEL.step_s(8, 1000) * ratio))
    assert calibration.factor == 1.0


def test_a_profile_that_says_nothing_stays_as_it_is() -> None:
    calibration = Calibration(StepModel(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    calibration.observe(StepSample(0, 0.0, 0.0, 8, 1000, 0.1))
    assert calibration.factor == 1.0
