"""Does a profile of an engine with known coefficients find them, and leave the engine as it was?"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from predictors.latency.artifact import Machine, ProfileFile
from predictors.latency.design import RUNG_STEPS, Ladder, Mixture, Prefills, design_points
from predictors.latency.profile import ProbeError
from scorpio import channel
from scorpio.core.latency import UNMEASURED
from scorpio.live.profile import record as profiling
from scorpio.live.profile.record import NotRecordingError, profile_server
from scorpio.live.profile.run import describe
from tests.live.fake_engine import FACTS, TRUTH, FakeEngine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[tuple[FakeEngine, str]]:
    fake = FakeEngine(tmp_path)
    server = TestServer(fake.app())
    await server.start_server()
    yield fake, str(server.make_url("/"))
    await server.close()


async def test_known_coefficients_come_back(engine: tuple[FakeEngine, str]) -> None:
    fake, url = engine
    said: list[tuple[str, float]] = []
    measured = await profile_server(
        url,
        fake.run_dir,
        "fake",
        budget_s=150.0,
        exam_s=0.3,
        progress=lambda what, share: said.append((what, share)),
    )
    found = measured.profile.step
    for decodes, context, prompt in ((1, 100, 0), (20, 4000, 0), (0, 0, 300), (8, 900, 64)):
        wanted = TRUTH.step_s(decodes, context, prompt, prompt**2)
        assert found.step_s(decodes, context, prompt, prompt**2) == pytest.approx(wanted, rel=0.02)
    assert measured.vllm == "0.32.0"
    limits = {"max_model_len": 4096, "block_size": 16, "num_gpu_blocks": 3200}
    assert measured.engine == FACTS | limits
    assert measured.fit["exam"] is not None
    assert measured.fit["design"]["left_out"] == ()  # type: ignore[index]
    assert said[-1] == ("exam: random load", 1.0)


async def test_the_policy_is_given_back(engine: tuple[FakeEngine, str]) -> None:
    fake, url = engine
    channel.write_control(fake.run_dir, "scorpio-paper", {"kappa": 1.2})
    await profile_server(url, fake.run_dir, "fake", exam_s=0.1)
    control = channel.read_control(fake.run_dir)
    assert control is not None
    assert (control.policy, control.record_steps) == ("scorpio-paper", False)
    assert control.options == {"kappa": 1.2}


async def test_points_beyond_the_budget_are_named(engine: tuple[FakeEngine, str]) -> None:
    fake, url = engine
    measured = await profile_server(url, fake.run_dir, "fake", budget_s=1e-3, exam_s=0.1)
    assert len(measured.fit["design"]["left_out"]) == len(design_points(4096)) - 1  # type: ignore[index]


async def test_an_engine_that_follows_late_is_waited_for(
    engine: tuple[FakeEngine, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, url = engine
    follow, asked = fake._poll_control, list[int]()

    def late() -> None:
        asked.append(1)
        if len(asked) > 17:  # three sets of probes and more
            follow()

    monkeypatch.setattr(fake, "_poll_control", late)
    await profile_server(url, fake.run_dir, "fake", budget_s=1e-3, exam_s=0.1)
    assert fake.history[20] == "fcfs"


async def test_an_engine_elsewhere_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_FOLLOW_S", 0.2)
    fake = FakeEngine(tmp_path, follows_control=False)
    async with TestServer(fake.app()) as server:
        url = str(server.make_url("/"))
        with pytest.raises(NotRecordingError, match="records no steps"):
            await profile_server(url, tmp_path, "fake")
        (tmp_path / "other").mkdir()
        with pytest.raises(NotRecordingError, match="holds no status"):
            await profile_server(url, tmp_path / "other", "fake")


async def test_a_failing_server_is_named_and_recording_stops(
    engine: tuple[FakeEngine, str],
) -> None:
    fake, url = engine

    def break_it(_what: str, _share: float) -> None:
        fake.broken = True

    with pytest.raises(ProbeError, match="HTTP 500: engine dead"):
        await profile_server(url, fake.run_dir, "fake", progress=break_it)
    control = channel.read_control(fake.run_dir)
    assert control is not None
    assert not control.record_steps


async def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="does not answer"):
        await profile_server("http://127.0.0.1:9", tmp_path, "fake")


@pytest.mark.parametrize("max_model_len", [64, 256, 600, 2048, 131072])
@pytest.mark.parametrize("max_batch", [1, 8, 64])
def test_designs_stay_within_the_engine(max_model_len: int, max_batch: int) -> None:
    points = design_points(max_model_len, max_batch)
    assert points
    for point in points:
        assert point.longest <= max_model_len
        if isinstance(point, Ladder):
            assert 1 <= point.batch <= max_batch
        if isinstance(point, Mixture):
            assert 1 <= point.decodes <= max(max_batch - 1, 1)
    assert any(isinstance(point, Prefills) for point in points)


def test_small_batches_are_measured_again_later() -> None:
    """A slow stretch of the machine must not look like the price of one batch size."""
    points = design_points(2048)
    ladders = [at for at, point in enumerate(points) if isinstance(point, Ladder)]
    assert len(ladders) >= 5
    assert all(later - sooner > 1 for sooner, later in itertools.pairwise(ladders[:4]))


def test_what_repetitions_differ_by_is_said() -> None:
    repeats = {"n": 40, "r2": 0.9, "mape": 0.071, "median_ape": 0.06, "max_ape": 0.3}
    form = {"all": repeats | {"mape": 0.083}}
    fit = {"mixed_form": form, "paper_form": form, "repeats": repeats, "exam": None}
    measured = ProfileFile(UNMEASURED, "m", Machine("cpu", 2), "0.32.0", "now", fit)
    lines = describe(measured)
    assert lines[0].startswith("step time error, held out")
    assert "the same step again: 7.1% off (40 steps)" in lines[-1]
    assert len(describe(replace(measured, fit=fit | {"repeats": None}))) == len(lines) - 1


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 32, 63])
def test_a_ladder_halves(batch: int) -> None:
    lengths = Ladder(batch, 10).output_tokens()
    assert len(lengths) == batch
    alive, previous = batch, 0
    for length in sorted(set(lengths)):
        assert length - previous == RUNG_STEPS
        still = sum(n > length for n in lengths)
        assert still in (alive // 2, 0)
        alive, previous = still, length
