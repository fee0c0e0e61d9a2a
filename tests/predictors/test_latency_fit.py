"""Does the fit find coefficients that are known, and say how far off it is when they are not?"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.latency.errors import repeat_error
from predictors.latency.fit import FitError, fit_profile
from predictors.latency.samples import StepFileError, StepTable, read_steps
from scorpio.core.latency import DecodeModel, PrefillModel, StepModel
from scorpio.core.snapshot import StepSample
from tests.shared_data import shared_data

GRID_BATCH = (1, 2, 4, 8, 16, 32, 64)
GRID_PROMPT = (16, 32, 64, 128, 256, 512, 1024, 2048)


def design(model: StepModel) -> list[StepSample]:
    """Noise-free steps of `model` over a grid of decode, prefill and mixed steps."""
    rows: list[tuple[int, int, int, int]] = []  # prefill tokens, prefix, decodes, mean context
    rows += [(0, 0, b, c) for b in GRID_BATCH for c in (32, 256, 1024)]
    rows += [(n, p, 0, 0) for n in GRID_PROMPT for p in (0, 512)]
    rows += [(n, 0, b, 256) for n in GRID_PROMPT for b in (2, 8, 32)]
    return [
        StepSample(n, float(n * n), float(n * p), b, b * c, model.step_s(b, b * c, n, n * n, n * p))
        for n, p, b, c in rows
    ]


def noisy(samples: list[StepSample], sigma: float, seed: int, times: int = 4) -> list[StepSample]:
    """Each sample `times` over, with lognormal noise."""
    rng = np.random.default_rng(seed)
    return [
        StepSample(
            s.prefill_tokens,
            s.prefill_sq_tokens,
            s.prefill_prefix_products,
            s.num_decodes,
            s.decode_context_tokens,
            s.duration_s * float(rng.lognormal(0.0, sigma)),
        )
        for _ in range(times)
        for s in samples
    ]


def worst_error(found: StepModel, truth: StepModel) -> float:
    """Largest relative difference of two models over the grid."""
    return max(abs(found.sample_s(s) / s.duration_s - 1.0) for s in design(truth))


models = st.builds(
    StepModel,
    base_s=st.floats(2e-3, 8e-2),
    low_token_s=st.floats(1e-5, 5e-3),
    high_token_s=st.floats(1e-5, 5e-3),
    knee_tokens=st.sampled_from([64.0, 128.0, 256.0]),
    prefill_sq_s=st.floats(0.0, 1e-7),
    prefill_prefix_s=st.floats(0.0, 1e-7),
    context_token_s=st.floats(0.0, 1e-6),
)


@settings(max_examples=25, deadline=None)
@given(truth=models)
def test_exact_samples_give_back_the_model(truth: StepModel) -> None:
    profile, report = fit_profile(noisy(design(truth), 0.0, seed=0, times=1), "exact")
    assert worst_error(profile.step, truth) < 1e-6
    assert report.outliers == 0


@settings(max_examples=25, deadline=None)
@given(truth=models, seed=st.integers(0, 2**31))
def test_noisy_samples_give_nearly_the_model(truth: StepModel, seed: int) -> None:
    profile, report = fit_profile(noisy(design(truth), 0.03, seed), "noisy")
    assert worst_error(profile.step, truth) < 0.06
    everything = report.mixed_form["all"]
    assert everything is not None
    assert everything.mape < 0.05


def test_coefficients_come_back_by_name() -> None:
    truth = StepModel(0.0116, 3.0e-5, 5.3e-5, 128.0, 1.8e-9, 2.8e-9, 8.4e-8)
    found = fit_profile(noisy(design(truth), 0.0, seed=0, times=1), "exact")[0].step
    assert found.knee_tokens == truth.knee_tokens
    for name in ("base_s", "low_token_s", "high_token_s", "prefill_sq_s", "prefill_prefix_s",
                 "context_token_s"):  # fmt: skip
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-4), name


def test_stalls_do_not_move_the_fit() -> None:
    truth = StepModel(0.06, 6e-3, 4e-3, 32.0, 1e-8, 1e-8, 1e-7)
    samples = noisy(design(truth), 0.01, seed=1)
    stalled = [
        StepSample(s.prefill_tokens, s.prefill_sq_tokens, s.prefill_prefix_products, s.num_decodes,
                   s.decode_context_tokens, s.duration_s * (8.0 if i % 17 == 0 else 1.0))
        for i, s in enumerate(samples)
    ]  # fmt: skip
    profile, report = fit_profile(stalled, "stalls")
    stalls = len(range(0, len(samples), 17))
    assert stalls <= report.outliers <= 1.2 * stalls + 2
    assert worst_error(profile.step, truth) < 0.03
    everything = report.mixed_form["all"]
    assert everything is not None
    assert everything.max_ape > 0.5, "stalls must count in the reported errors"


@pytest.mark.parametrize("sigma", [0.0, 0.03, 0.1])
def test_the_scatter_of_repetitions_is_the_noise_whatever_the_model(sigma: float) -> None:
    """A quarter of the sizes is 30 % slower than the model says: its own fault, not scatter."""
    truth = StepModel(0.06, 6e-3, 4e-3, 32.0, 1e-8, 1e-8, 1e-7)
    steps = StepTable.of(noisy(design(truth), sigma, seed=3, times=30))
    quarter = np.where(steps.tokens % 32 == 0, 1 / 1.3, 1.0)
    true_s = np.tile([s.duration_s for s in design(truth)], 30)
    found = repeat_error(steps, true_s * quarter)
    assert found is not None
    assert found.n == len(steps)
    assert found.mape == pytest.approx(sigma * np.sqrt(2.0 / np.pi), rel=0.1, abs=1e-12)


def test_steps_seen_too_seldom_have_no_scatter() -> None:
    truth = StepModel(0.06, 6e-3, 4e-3, 32.0, 1e-8, 1e-8, 1e-7)
    steps = StepTable.of([s for s in design(truth) if s.prefill_tokens])
    assert repeat_error(steps, steps.duration_s) is None
    _, report = fit_profile(design(truth), "exact")
    assert report.repeats is None
    assert report.to_dict()["repeats"] is None


def test_warmup_steps_are_left_out() -> None:
    truth = StepModel(0.06, 6e-3, 4e-3, 32.0, 0.0, 0.0, 1e-7)
    slow = [StepSample(16, 256.0, 0.0, 0, 0, 30.0)] * 20
    profile, report = fit_profile(slow + design(truth), "warm-up", warmup_steps=20)
    assert report.warmup_dropped == 20
    assert worst_error(profile.step, truth) < 1e-6


def test_paper_forms_are_fitted_on_their_own_steps() -> None:
    decode = DecodeModel(a_s=1e-7, b_s=1e-3, c_s=1e-6, d_s=0.05)
    prefill = PrefillModel(floor_s=0.08, knee_tokens=64.0, per_token_s=4e-3)
    samples = [
        StepSample(0, 0.0, 0.0, b, b * c, decode.step_s(b, c))
        for b in GRID_BATCH
        for c in (32, 256, 1024)
    ] + [
        StepSample(n, float(n * n), 0.0, 0, 0, prefill.prefill_s(n))
        for n in (*GRID_PROMPT, 24, 48, 96, 192, 384)
    ]
    profile, _ = fit_profile(samples, "paper")
    for b, c in ((1, 50), (20, 700), (64, 1024)):
        assert profile.decode.step_s(b, c) == pytest.approx(decode.step_s(b, c), rel=1e-6)
    for n in (16, 64, 100, 2048):
        assert profile.prefill.prefill_s(n) == pytest.approx(prefill.prefill_s(n), rel=0.02)


def test_decode_only_samples_still_give_a_whole_profile() -> None:
    truth = StepModel(0.06, 6e-3, 6e-3, 32.0, 0.0, 0.0, 1e-7)
    samples = [s for s in design(truth) if s.prefill_tokens == 0]
    profile, report = fit_profile(samples, "decodes")
    assert profile.prefill.floor_s > 0.0
    assert report.mixed_form["prefill"] is None


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([], "0 step samples are too few"),
        ([StepSample(0, 0.0, 0.0, 1, 9, 0.1)] * 5, "5 step samples are too few"),
        ([StepSample(0, 0.0, 0.0, 1, 9, 0.1)] * 50, "same number of tokens"),
    ],
)
def test_samples_that_teach_nothing_are_refused(samples: list[StepSample], reason: str) -> None:
    with pytest.raises(FitError, match=reason):
        fit_profile(samples, "bad")


GOOD_LINE = json.dumps(
    {"prefill_tokens": 1, "prefill_sq_tokens": 1.0, "prefill_prefix_products": 0.0,
     "num_decodes": 2, "decode_context_tokens": 9, "duration_s": 0.1}
)  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2"),
        ("[1]", "line 2: not a JSON object"),
        ("{}", "line 2: missing prefill_tokens"),
        (GOOD_LINE.replace("0.1", '"0.1"'), "line 2: duration_s is not a number"),
        (GOOD_LINE.replace("0.1", "true"), "line 2: duration_s is not a number"),
        (GOOD_LINE.replace("0.1", "NaN"), "line 2: duration_s is out of range"),
        (GOOD_LINE.replace("0.1", "0"), "line 2: duration_s is out of range"),
        (GOOD_LINE.replace("9", "-9"), "line 2: decode_context_tokens is out of range"),
    ],
)
def test_bad_step_files_are_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text(f"{GOOD_LINE}\n{line}\n{GOOD_LINE}\n")
    with pytest.raises(StepFileError, match=r"steps\.jsonl") as failure:
        read_steps(path)
    assert reason in str(failure.value)


def test_a_line_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text(f"{GOOD_LINE}\n\n{GOOD_LINE}\n{GOOD_LINE[:20]}")
    assert read_steps(path) == [StepSample(1, 1.0, 0.0, 2, 9, 0.1)] * 2
    assert len(read_steps(path, start_byte=len(GOOD_LINE) + 1)) == 1


def test_a_missing_step_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepFileError, match="cannot read"):
        read_steps(tmp_path / "none.jsonl")


@pytest.mark.parametrize("gpu", ["a100-80gb-sxm", "h100-80gb-sxm"])
def test_measured_gpu_steps(gpu: str) -> None:
    """Real kernel tables: the mixed form explains all steps, the paper's only pure ones."""
    with shared_data("latency/step_samples.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["gpu"] == gpu and r["model"] == "Llama-3.1-8B"]
    samples = [
        StepSample(
            n := int(r["prefill_tokens"]),
            float(n * n),
            float(n * int(r["prefill_prefix"])),
            int(r["decode_seqs"]),
            int(r["total_ctx"]),
            float(r["step_ms"]) / 1e3,
        )
        for r in rows
    ]
    _, report = fit_profile(noisy(samples, 0.03, seed=0, times=1), gpu)
    mixed_form = {k: s.mape for k, s in report.mixed_form.items() if s is not None}
    paper_form = {k: s.mape for k, s in report.paper_form.items() if s is not None}
    print(f"{gpu} held-out MAPE: mixed form {mixed_form}, paper {paper_form}")
    assert mixed_form["all"] < 0.05
    assert mixed_form["mixed"] < 0.05
    assert mixed_form["all"] < paper_form["all"]
    r2 = report.mixed_form["all"]
    assert r2 is not None
    assert r2.r2 is not None
    assert r2.r2 > 0.98
