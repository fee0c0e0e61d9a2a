"""The GPU models, the noise and the profile that policies get."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from predictors.latency.artifact import ProfileFile, this_machine, write_profile
from scorpio.core.latency import LatencyProfile, decode_from_step, prefill_from_step
from scorpio.twin.engine.clock import VirtualClock
from scorpio.twin.gpu.file import gpu_model, write_gpu
from scorpio.twin.gpu.noise import NO_NOISE, NoiseSpec, StepNoise
from scorpio.twin.gpu.profile_samples import biased, profile_gpu
from scorpio.twin.gpu.step_models import BUILT_IN
from tests.shared_data import shared_data
from workloads.errors import UnknownName, WorkloadError

FITS = {
    "a100-llama-3.1-8b": ("a100-80gb-sxm", "Llama-3.1-8B"),
    "h100-llama-3.1-8b": ("h100-80gb-sxm", "Llama-3.1-8B"),
    "h100x4-llama-3.1-70b": ("h100-80gb-sxm", "Llama-3.1-70B"),
    "rtxpro6000-llama-3.1-8b": ("rtxpro6000", "Llama-3.1-8B"),
}


@pytest.mark.parametrize("name", FITS)
def test_built_in_model_is_the_published_fit(name: str) -> None:
    fits = json.loads(shared_data("latency/fits.json").read_text())
    gpu, model = FITS[name]
    (fit,) = [f for f in fits if (f["gpu"], f["model"], f["fit"]) == (gpu, model, "unified")]
    ours = BUILT_IN[name]
    step = ours.step
    found = [step.base_s, step.low_token_s, step.high_token_s, step.prefill_sq_s,
             step.prefill_prefix_s, step.context_token_s]  # fmt: skip
    wanted = [fit[key] / 1000 for key in ("d0", "s1", "s2", "q", "np", "a")]
    assert found == pytest.approx(wanted, rel=1e-6)
    assert step.knee_tokens == fit["n0"]
    assert ours.mape == pytest.approx(fit["mape"], abs=5e-4)
    assert ours.max_error == pytest.approx(fit["maxerr"], abs=1e-3)


def test_unknown_gpu_lists_the_names() -> None:
    with pytest.raises(UnknownName, match="'h200'; valid: 24gb-llama"):
        gpu_model("h200")


def test_gpu_from_a_profile_file(tmp_path: Path) -> None:
    step = BUILT_IN["a100-llama-3.1-8b"].step
    profile = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "by hand")
    file = tmp_path / "mine.json"
    engine = {"num_gpu_blocks": 1234}
    write_profile(file, ProfileFile(profile, "m", this_machine(), "0.32.0", "today", {}, engine))
    gpu = gpu_model(str(file))
    assert (gpu.name, gpu.step, gpu.kv_blocks, gpu.gap_s) == ("mine", step, 1234, 0.0)


def test_written_gpu_comes_back_with_its_gap_inside(tmp_path: Path) -> None:
    gpu = BUILT_IN["h100-llama-3.1-8b"].with_gap(0.002)
    write_gpu(tmp_path / "h100.json", gpu, "Llama-3.1-8B")
    back = gpu_model(str(tmp_path / "h100.json"))
    assert back.gap_s == 0.0
    assert back.kv_blocks == gpu.kv_blocks
    assert back.step.step_s(9, 900, 80) == pytest.approx(gpu.step.step_s(9, 900, 80) + 0.002)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1, "unit": "s"}'])
def test_damaged_gpu_file_is_one_clear_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(WorkloadError, match=r"bad\.json") as caught:
        gpu_model(str(file))
    assert "\n" not in str(caught.value)


def test_noise_has_mean_one_and_the_given_spread() -> None:
    noise = StepNoise(NoiseSpec(0.03, 0.0, 0.0), 5)
    logs = np.log([noise.apply(1.0) for _ in range(20_000)])
    assert float(np.exp(logs).mean()) == pytest.approx(1.0, abs=1e-3)
    assert float(logs.std()) == pytest.approx(0.03, rel=0.03)


def test_stalls_are_rare_and_long() -> None:
    noise = StepNoise(NoiseSpec(0.0, 0.01, 0.5), 5)
    added = np.array([noise.apply(1.0) - 1.0 for _ in range(50_000)])
    assert float((added > 0).mean()) == pytest.approx(0.01, rel=0.2)
    assert float(added[added > 0].mean()) == pytest.approx(0.5, rel=0.2)


def test_noise_depends_on_the_seed_alone() -> None:
    spec = NoiseSpec()
    first, again, other = (StepNoise(spec, s) for s in (1, 1, 2))
    drawn = [[n.apply(0.01) for _ in range(100)] for n in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    silent = StepNoise(NO_NOISE, 1)
    assert {silent.apply(0.01) for _ in range(100)} == {0.01}


def test_from_the_shift_on_every_step_is_slower() -> None:
    noise = StepNoise(NoiseSpec(0.0, 0.0, 0.0, shift_at_s=5.0, shift_factor=1.3), 1)
    assert [noise.apply(0.01, at_s) for at_s in (0.0, 4.9, 5.0, 60.0)] == [
        0.01, 0.01, pytest.approx(0.013), pytest.approx(0.013),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="shift_factor"):
        NoiseSpec(shift_factor=0.0)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_policies_profile_is_close_but_not_the_truth(name: str, seed: int) -> None:
    gpu = BUILT_IN[name]
    profile = profile_gpu(gpu, NoiseSpec(), seed, gpu.kv_blocks * 16)
    assert profile.step != gpu.step
    steps = ((1, 200, 0), (64, 64_000, 0), (200, 250_000, 0), (0, 0, 256), (0, 0, 2048),
             (40, 40_000, 512), (100, 90_000, 1900))  # fmt: skip
    for decodes, context, chunk in steps:
        if context > gpu.kv_blocks * 16:
            continue  # no such step on this GPU
        truth_s = gpu.step.step_s(decodes, context, chunk, chunk**2) + gpu.gap_s
        believed_s = profile.step.step_s(decodes, context, chunk, chunk**2)
        assert believed_s == pytest.approx(truth_s, rel=0.06)
    assert profile.decode.step_s(64, 1000) == pytest.approx(
        gpu.step.step_s(64, 64_000) + gpu.gap_s, rel=0.1
    )
    assert profile.prefill.prefill_s(1500) == pytest.approx(
        gpu.step.step_s(0, 0, 1500, 1500**2) + gpu.gap_s, rel=0.1
    )


def test_profile_depends_on_the_seed() -> None:
    gpu = BUILT_IN["a100-llama-3.1-8b"]
    first, again, other = (profile_gpu(gpu, NoiseSpec(), s, 320_000) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_bias_scales_times_and_leaves_knees() -> None:
    gpu = BUILT_IN["h100-llama-3.1-8b"]
    profile = profile_gpu(gpu, NoiseSpec(), 0, 320_000)
    wrong = biased(profile, 1.2)
    assert wrong.step.step_s(50, 9000, 700, 700**2) == pytest.approx(
        1.2 * profile.step.step_s(50, 9000, 700, 700**2)
    )
    assert wrong.prefill.prefill_s(900) == pytest.approx(1.2 * profile.prefill.prefill_s(900))
    assert wrong.decode.tpot_s(9, 80, 70) == pytest.approx(1.2 * profile.decode.tpot_s(9, 80, 70))
    assert biased(profile, 1.0) is profile


def test_time_never_runs_backwards() -> None:
    clock = VirtualClock(1.0)
    clock.advance_to(2.0)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance_to(1.5)
    assert clock.now_s == 2.0
    assert not math.isnan(clock.now_s)
