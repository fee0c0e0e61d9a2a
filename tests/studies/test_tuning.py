"""`compare --tune`: as many settings for each policy, on requests that are not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.core.registry import option_ranges
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.studies.compare import run_compare
from scorpio.studies.compare_spec import CompareSpec
from scorpio.studies.tuning import Trial, Tuning, told, tune
from scorpio.studies.tuning_space import (
    BUDGETS,
    QUEUE_CAPS,
    TuneSpec,
    ranges,
    settings,
    tuning_rows,
)
from scorpio.twin.pool import Job, JobFailed
from scorpio.twin.run import TwinRun
from scorpio.twin.systems import DEFAULT_TUNING, check_system, system_names
from workloads.errors import WorkloadError
from workloads.load import LoadKey
from workloads.traces.row import TraceRow
from workloads.traces.trace import write_trace

TUNABLE = [name for name in system_names() if ranges(name)]


@pytest.fixture
def spec(tmp_path: Path) -> CompareSpec:
    """Sixty short requests, of which the last thirty are measured, at two loads."""
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, [TraceRow(0.05 * i, 300 + 40 * (i % 9), 3 + i % 8) for i in range(60)])
    return CompareSpec(
        gpu="a100-llama-3.1-8b",
        trace=str(trace),
        rows="30:60",
        mix="six",
        rate_scales=(4.0, 8.0),
        policies=("fcfs", "fcfs-tuned", "scorpio", "sjf"),
        seeds=(0, 1),
        out_dir=tmp_path / "out",
        engine=EngineSpec(max_num_seqs=16, num_blocks=500),
        workers=1,
        tune=TuneSpec(("fcfs-tuned", "scorpio", "sjf"), trials=4),
    )


def test_what_was_tried_and_chosen_is_written_and_what_is_measured_ran_with_it(
    spec: CompareSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = list[tuple[str, str | None, dict[str, float]]]()
    run = Job.run

    def noted(self: Job) -> TwinRun:
        options = dict(self.config.policy_options.get(self.policy, {}))
        ran.append((self.policy, self.load.rows, options))
        return run(self)

    monkeypatch.setattr(Job, "run", noted)
    seen: list[tuple[int, int, str]] = []
    run_compare(spec, lambda *told_: seen.append(told_))
    assert seen[-1][:2] == (3 * 4 * 2 + 4 * 4, 3 * 4 * 2 + 4 * 4)
    written = json.loads((spec.out_dir / "tuning.json").read_text())
    assert (written["rows"], written["seed"]) == ("0:30", 0)
    assert list(written["policies"]) == ["fcfs-tuned", "scorpio", "sjf"]
    for policy, found in written["policies"].items():
        assert len(found["trials"]) == 4
        assert found["trials"][0]["options"] == {}
        assert found["attainment"] == max(trial["attainment"] for trial in found["trials"])
        tried = [options for name, rows, options in ran if name == policy and rows == "0:30"]
        assert tried[::2] == [trial["options"] for trial in found["trials"]]
        measured = [options for name, rows, options in ran if name == policy and rows == "30:60"]
        assert measured == [found["options"]] * 4
    assert [options for name, _, options in ran if name == "fcfs"] == [{}] * 4
    lines = list(told(written))
    assert lines[1].startswith("scorpio, tuned on rows 0:30, seed 0: ")
    assert lines[1].endswith("of 4 settings")


def test_the_same_seed_chooses_the_same_and_a_stopped_one_goes_on(
    spec: CompareSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(spec, policies=("scorpio",), tune=TuneSpec(("scorpio",), trials=3))
    for name in ("one", "other"):
        run_compare(replace(few, out_dir=spec.out_dir / name))
    one, other = (spec.out_dir / name / "tuning.json" for name in ("one", "other"))
    assert one.read_text() == other.read_text()
    monkeypatch.setattr("scorpio.studies.compare.tune", None)  # not asked again
    run_compare(replace(few, out_dir=one.parent))


@pytest.mark.parametrize("name", TUNABLE)
def test_settings_are_valid_differ_and_are_the_seed_s(name: str) -> None:
    found = settings(name, 30, 7, 256)
    assert len(found) == 30
    assert found == settings(name, 30, 7, 256)
    assert found[0] == {}
    assert found != settings(name, 12, 8, 256)
    assert len({json.dumps(one, sort_keys=True) for one in found}) >= 28
    for options in found:
        check_system(name, options)
        for option, value in options.items():
            low, high = ranges(name)[option]
            assert low <= value <= high


def test_the_grid_of_stock_vllm_is_tried_whole_and_no_setting_twice() -> None:
    found = settings("fcfs-tuned", 30, 0, 256)
    assert len(found) == len(BUDGETS) * len(QUEUE_CAPS)
    assert DEFAULT_TUNING not in found  # it is the first one, {}
    assert len(settings("fcfs-tuned", 99, 0, 256)) == 30
    assert all(
        one["max_num_batched_tokens"] >= 1000 for one in settings("fcfs-tuned", 9, 0, 1000)[1:]
    )


def test_switches_and_what_is_off_stay_as_they_are() -> None:
    assert {"ttft_guard", "tpot_guard"} <= set(option_ranges("scorpio-paper"))
    assert not {"ttft_guard", "tpot_guard"} & set(ranges("scorpio-paper"))
    assert "tenant_share" not in ranges("scorpio")
    assert ranges("scorpio")["light_share"] == (0.4, 1.0)
    assert ranges("edf") == ranges("fcfs") == {}


@pytest.mark.parametrize(
    ("measured", "wanted", "rows"),
    [
        ("0:300", None, "300:600"),
        ("1000:1300", None, "700:1000"),
        ("100:300", None, "0:100"),
        ("99:300", None, "300:501"),
        ("500:", None, "0:500"),
        ("0:300", "300:400", "300:400"),
        ("300:", "0:300", "0:300"),
    ],
)
def test_the_part_to_tune_on(measured: str, wanted: str | None, rows: str) -> None:
    assert tuning_rows(measured, wanted) == rows


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": None}, "tune: all of the trace is measured; say --rows A:B"),
        ({"rows": "0:"}, "tune: nothing is left beside --rows 0:"),
        ({"rows": "0:40"}, "rows 40:80: it has 60 rows; --tune-rows names another part"),
        ({"tune": TuneSpec(("sjf",), "20:40")}, "rows 20:40 are measured too (--rows 30:60)"),
        ({"tune": TuneSpec(("edf",))}, "tune: 'edf' is not compared; valid: fcfs, fcfs-tuned, sc"),
        (
            {"tune": TuneSpec(("fcfs",))},
            "tune: fcfs has no option to tune; valid: fcfs-tuned, scorpio, sjf",
        ),
        ({"tune": TuneSpec(("sjf", "sjf"))}, "tune: no policy twice"),
        ({"tune": TuneSpec(("sjf",), trials=1)}, "tune trials must be >= 2, got 1"),
        (
            {"policy_options": {"sjf": {"ageing_tokens_per_s": 1.0}}},
            "sjf: either tuned here or with given options, not both",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    spec: CompareSpec, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(WorkloadError) as caught:
        replace(spec, **change).check()
    assert reason in str(caught.value)


def test_a_setting_that_dies_is_not_chosen(
    spec: CompareSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = [LoadKey(spec.trace, "0:30", "six", x, 0) for x in (4.0, 8.0)]
    run = Job.run

    def dies(self: Job) -> TwinRun:
        if self.config.policy_options["sjf"] and self.load.rate_scale == 8.0:
            raise ValueError("no paper")
        return run(self)

    monkeypatch.setattr(Job, "run", dies)
    tried = {"sjf": [{}, {"ageing_tokens_per_s": 20.0}]}
    found = tune(spec.config(), tried, loads, 1)["sjf"]
    assert found.trials[1] == Trial({"ageing_tokens_per_s": 20.0}, None)
    assert found.best.options == {}
    with pytest.raises(JobFailed, match="no paper"):
        tune(spec.config(), {"sjf": tried["sjf"][1:]}, loads, 1)


def test_equal_ones_leave_the_standard_setting() -> None:
    trials = (Trial({}, 0.5), Trial({"a": 1.0}, 0.5), Trial({"a": 2.0}, None))
    assert Tuning(trials).best.options == {}


def test_on_the_command_line(spec: CompareSpec) -> None:
    words = ["compare", "--gpu", spec.gpu, "--trace", spec.trace, "--rows", "30:60"]
    words += ["--mix", "six", "--policy", "fcfs,sjf", "--workers", "1", "--out", str(spec.out_dir)]
    for more, reason in (
        (("--tune", "edf"), "tune: 'edf' is not compared; valid: fcfs, sjf"),
        (("--tune-trials", "3"), "--tune-rows and --tune-trials belong to --tune"),
        (("--tune", "sjf", "--engine", "live"), "--tune is of --engine twin, not live"),
    ):
        refused = CliRunner().invoke(app, [*words, *more])
        assert (refused.exit_code, reason in refused.stderr) == (2, True), refused.stderr
        assert not spec.out_dir.exists()
    done = CliRunner().invoke(app, [*words, "--tune", "sjf", "--tune-trials", "3"])
    assert done.exit_code == 0, done.stderr
    assert "sjf, tuned on rows 0:30, seed 0: " in done.stdout
    assert str(spec.out_dir / "tuning.json") in done.stdout
    asked = json.loads((spec.out_dir / "manifest.json").read_text())["asked"]
    assert asked["tune"] == {"policies": ["sjf"], "rows": None, "trials": 3}
    other = CliRunner().invoke(app, words)
    assert (other.exit_code, "differs in tune" in other.stderr) == (2, True)
