"""Which part of the time was prefill? By hand: 100 ms steps, 40 ms of them decodes."""

from __future__ import annotations

import math

import pytest

from scorpio.core.prefill_share import PrefillShare
from scorpio.core.snapshot import StepSample


def step(took_s: float = 0.1, prefill: int = 64) -> StepSample:
    return StepSample(prefill, 0.0, 0.0, 4, 400, took_s)


def test_nothing_is_known_before_a_step() -> None:
    assert PrefillShare().value == 0.0


def test_what_a_step_took_beyond_its_decodes_was_prefill() -> None:
    share = PrefillShare()
    share.observe(step(), 0.04)
    assert share.value == pytest.approx(0.6)
    share.observe(step(prefill=0), 0.04)  # a slow step of decodes alone has none
    keep = math.exp(-0.01)
    assert share.value == pytest.approx(0.06 * keep / (0.1 * keep + 0.1))
    share.observe(step(0.03), 0.04)  # sooner than predicted: none, not less
    assert share.value == pytest.approx(
        0.06 * keep * math.exp(-0.003) / ((0.1 * keep + 0.1) * math.exp(-0.003) + 0.03)
    )


def test_it_is_never_all_of_the_time() -> None:
    share = PrefillShare()
    share.observe(step(), 0.0)
    assert share.value == 0.9


def test_long_steps_are_remembered_for_fifty_of_them() -> None:
    share = PrefillShare()
    share.observe(step(2.0), 1.0)
    share.observe(step(2.0, prefill=0), 1.0)
    keep = math.exp(-1.0 / 50.0)
    assert share.value == pytest.approx(keep / (2.0 * keep + 2.0))


@pytest.mark.parametrize(
    ("predicted_s", "value"),
    [
        (0.0, 0.6),  # not known
        (0.026, 0.6),
        (0.025, 0.6),  # four times its prediction, no more
        (0.024, 0.0),  # it has not been computing all that time
    ],
)
def test_a_stall_is_no_prefill(predicted_s: float, value: float) -> None:
    share = PrefillShare()
    share.observe(step(), 0.04, predicted_s)
    assert share.value == pytest.approx(value)


def test_a_pause_makes_prefills_of_before_count_less() -> None:
    share = PrefillShare()
    share.observe(step(), 0.04)
    share.idle(1.0)  # a light load pauses so long
    assert share.value == pytest.approx(0.6)
    share.idle(10.0)
    assert share.value == pytest.approx(0.6 * math.exp(-1.0))
