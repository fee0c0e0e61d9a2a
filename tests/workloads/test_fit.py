"""Does the fit find known parameters again, and measure distances as computed by hand?"""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from workloads.named import CATALOG
from workloads.synthetic.fit import (
    dispersion,
    errors,
    fit,
    fit_knots,
    fit_rank_grid,
    ks_distance,
    main,
    prefix_hit_ratio,
)
from workloads.synthetic.generate import from_table, synthetic_rows
from workloads.synthetic.lengths import LengthModel, sample_pairs
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace

TABLE = {
    "requests": 6000,
    "arrivals": {"process": "gamma", "rate_rps": 4.0, "cv": 2.0},
    "prompt_tokens": {"p": [0.0, 0.4, 0.6, 1.0], "tokens": [20, 300, 300, 5000]},
    "output_tokens": {"p": [0.0, 0.5, 1.0], "tokens": [10, 60, 900]},
    "rank_grid": [[8, 2], [2, 8]],
}


def test_ks_by_hand() -> None:
    assert ks_distance(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 4])) == 0.0
    assert ks_distance(np.array([1, 2]), np.array([3, 4])) == 1.0
    assert ks_distance(np.array([1, 2, 3, 4]), np.array([3, 4])) == 0.5


def test_prefix_hits_by_hand() -> None:
    rows = [
        TraceRow(0, 1024, 1, (0, 1)),
        TraceRow(1, 1536, 1, (0, 1, 2)),
        TraceRow(2, 1024, 1, (9, 1)),  # a known block behind an unknown one is no hit
    ]
    assert prefix_hit_ratio(rows) == pytest.approx(2 / 7)


def test_dispersion_by_hand() -> None:
    times = np.array([0.0, 1.0, 61.0, 62.0, 63.0, 64.0, 121.0])  # minutes of 2 and 4; a part
    assert dispersion(times) == pytest.approx(1.0 / 3.0)


def test_knots_follow_a_distribution_with_an_atom() -> None:
    model = LengthModel((0.0, 0.4, 0.6, 1.0), (20.0, 300.0, 300.0, 5000.0))
    lengths, _ = sample_pairs(model, model, ((1.0,),), 20_000, 0)
    fitted = fit_knots(lengths, most=40)
    assert ks_distance(lengths, sample_pairs(fitted, fitted, ((1.0,),), 50_000, 1)[0]) < 0.02
    assert len(fitted.p) <= 42


@pytest.mark.parametrize("lengths", [[5] * 50, [1, 2] * 30, [3]])
def test_knots_of_few_values(lengths: list[int]) -> None:
    fitted = fit_knots(np.array(lengths), most=20)
    made = fitted.quantile((np.arange(1000) + 0.5) / 1000)
    assert set(made.tolist()) <= set(lengths)


def test_rank_grid_of_a_known_tie() -> None:
    x = np.arange(1000)
    assert fit_rank_grid(x, x, tiles=2).tolist() == [[10_000, 0], [0, 10_000]]
    assert fit_rank_grid(x, x[::-1], tiles=2).tolist() == [[0, 10_000], [10_000, 0]]


def test_a_fit_finds_its_own_parameters() -> None:
    rows = synthetic_rows(from_table(TABLE), 20_000, seed=3)
    fitted = fit(rows, most_knots=40)
    assert fitted.rate_rps == pytest.approx(4.0, rel=0.05)
    assert fitted.cv == pytest.approx(2.0, rel=0.05)
    found = errors(fitted, rows)
    for name in ("ks_prompt", "ks_output", "ks_output_per_prompt", "ks_gaps"):
        assert found[name] < 0.025
    assert found["mean_prompt_ratio"] == pytest.approx(1.0, abs=0.02)


def test_the_command_prints_a_catalog_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.jsonl"
    write_trace(path, synthetic_rows(from_table(TABLE), 1000, seed=3))
    assert main([str(path)]) == 0
    spec = from_table(tomllib.loads(capsys.readouterr().out))
    assert len(synthetic_rows(spec, 10, 0)) == 10


def test_a_log_without_real_times_fits_lengths_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lengths.csv"
    rows = "".join(f"{i},{i % 7 + 1},{i % 5 + 1}\n" for i in range(200))
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    assert main([str(path)]) == 0
    out = capsys.readouterr().out
    assert 'process = "constant"' in out
    assert "ks_gaps" not in out
    from_table(tomllib.loads(out))


def test_a_trace_too_short_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.jsonl"
    write_trace(path, [TraceRow(0.0, 5, 5)])
    assert main([str(path)]) == 2
    assert "a fit needs 100 requests" in capsys.readouterr().err
    assert main([str(tmp_path / "absent")]) == 2


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(CATALOG.glob("*.toml")) if "[prompt_tokens]\np" in p.read_text()],
    ids=lambda p: p.stem,
)
def test_every_fitted_entry_states_its_command_and_error(path: Path) -> None:
    text = path.read_text()
    assert "# Fitted with: python -m workloads.synthetic.fit " in text
    assert "# ks_prompt = 0.0" in text
    assert "# ks_output = 0.0" in text
