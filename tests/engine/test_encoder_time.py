"""What images take of the engine's time: is it found, and does it keep the promises to others?"""

from __future__ import annotations

from random import Random

import pytest
from vllm.v1.core.encoder_cache_manager import EncoderCacheManager

from scorpio.core.snapshot import StepSample
from scorpio.engine.record import encoder_time
from scorpio.engine.record.encoder_time import EncoderTime
from tests.engine.picturing import PicturingRunner
from tests.engine.timed import STEP, Timed


def sample(duration_s: float) -> StepSample:
    return StepSample(100, 1e4, 0.0, 4, 4000, duration_s)


PLAIN_S = STEP.sample_s(sample(1.0))


def test_without_images_a_step_is_told_as_it_was() -> None:
    time = EncoderTime()
    for seconds in (0.1, 0.5, 0.2):
        step = sample(seconds)
        assert time.learned(step, False, STEP) is step
    assert time.learned(sample(0.1), True, None) == sample(0.1)  # without a profile
    assert time.share == 0.0


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_what_images_take_is_laid_on_all_steps(factor: float) -> None:
    """Every fourth step takes five times as long: half of the time is theirs, whatever the profile
    is off by."""
    time = EncoderTime()
    told = []
    for number in range(2000):
        encodes = number % 4 == 3
        step = sample(PLAIN_S * factor * (5.0 if encodes else 1.0))
        told.append(time.learned(step, encodes, STEP).duration_s)
    assert time.share == pytest.approx(0.5, abs=0.02)
    assert told[-4:] == pytest.approx([2.0 * PLAIN_S * factor] * 4, rel=0.05)


@pytest.mark.parametrize("first", [0, 40])
def test_one_slow_step_is_no_slow_engine(first: int) -> None:
    """The encoder warms up with its first image, or stalls once: 5 s, of an engine at 0.02 s."""
    time = EncoderTime()
    for _ in range(first):
        for encodes in (True, False, False, False):
            time.learned(sample(PLAIN_S * (2.0 if encodes else 1.0)), encodes, STEP)
    told = [time.learned(sample(5.0), True, STEP)]
    told += [time.learned(sample(PLAIN_S), False, STEP) for _ in range(50)]
    assert max(step.duration_s for step in told) < 1.5 * PLAIN_S


def test_nothing_is_computed_until_an_image_comes() -> None:
    class Never:
        def sample_s(self, sample: StepSample) -> float:
            raise AssertionError

    step = sample(1.0)
    assert EncoderTime().learned(step, False, Never()) is step  # type: ignore[arg-type]


def test_it_is_forgotten() -> None:
    time = EncoderTime()
    for _ in range(20):
        time.learned(sample(1.0), True, STEP)
    assert time.share == 0.9  # more is not believed
    for _ in range(2000):
        time.learned(sample(PLAIN_S), False, STEP)
    assert time.share < 1e-3


def test_much_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(encoder_time.logger, "warning", lambda _, share: told.append(share))
    time = EncoderTime()
    for number in range(2000):
        time.learned(sample(PLAIN_S * (1 + 4 * (number % 4 == 3))), number % 4 == 3, STEP)
    assert [round(share, -1) for share in told] == [50]


class SlowEncoder(Timed):
    """each_s: for an embedding."""

    def __init__(self, each_s: float) -> None:
        super().__init__()
        self.runner: PicturingRunner = PicturingRunner()
        self.scheduler.max_num_encoder_input_tokens = 2048
        self.scheduler.encoder_cache_manager = EncoderCacheManager(4096)
        self._each_s, self._steps = each_s, 0

    def wait(self, seconds: float) -> None:
        new = self.runner.encoded[self._steps :]
        self._steps += len(new)
        super().wait(seconds + sum(new) * self._each_s)


def test_others_keep_their_promises_beside_images_that_take_long() -> None:
    """A quarter of the requests has an image of 0.2 s; text alone would take half of the time."""
    random_, engine = Random(1), SlowEncoder(4e-4)
    for number in range(300):
        engine.run_until(engine.time_s + random_.expovariate(9.0))
        images = [(50, 500, f"i{number}")] if number % 4 == 0 else []
        slo = {"slo_ttft_ms": 800.0, "slo_tpot_ms": 60.0}
        engine.add(f"r{number}", 650, 30, more={"images": images}, **slo)
    engine.run_until(engine.time_s + 20.0)
    texts = [f"r{number}" for number in range(300) if number % 4]
    served = [name for name in texts if not engine.refusal(name)]
    late = [name for name in served if engine.ttft_s(name) > 0.8]
    assert len(served) > 0.9 * len(texts)
    assert len(late) < 0.03 * len(texts)
    assert sum(engine.scorpio.telemetry.outcomes.violated.values()) < 0.05 * 300
    assert 0.05 < engine.scorpio._encoder.share < 0.6
