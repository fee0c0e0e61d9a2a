"""The report: self-contained, complete, honest about what it rests on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads.sample_runs import fill, known_runs, sample_run
from tests.workloads.test_records import NO_TOKENS, record, rejected
from workloads.report.findings import findings, focus_rate, reservations
from workloads.report.html import write_report
from workloads.report.plots_detail import class_plot, fate
from workloads.report.plots_latency import cdf, largest_classes
from workloads.results.aggregate import LoadPoint, Scenario
from workloads.results.intervals import Interval
from workloads.results.policy_order import policy_order, policy_style
from workloads.results.records import Outcome, RequestRecord
from workloads.results.summary import Comparison

PLOTS = {"attainment", "goodput", "outcomes", "classes", "latency_cdf", "timeline"}
MAX_BYTES = 6_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small comparison with everything in it, written once."""
    comparison = Comparison(tmp_path_factory.mktemp("report"))
    fill(comparison, ("fcfs", "scorpio-paper", "scorpio"), (0.8, 1.6), (0, 1, 2), requests=60)
    comparison.write()
    write_report(comparison, command="scorpio compare --trace <x> & more")
    return comparison.out_dir


def test_all_figures_are_there(folder: Path) -> None:
    names = {path.stem for path in folder.glob("*.png")}
    assert names == PLOTS
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000
    page = (folder / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 2 * len(PLOTS)  # for both kinds of screen


def test_forecasts_are_shown_where_there_are_some(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path)
    for policy in ("fcfs", "scorpio"):
        run = sample_run(policy, 1.0, 0, 200)
        told = [
            r if r.ttft_s is None else replace(r, predicted_ttft_s=r.ttft_s * (1 + r.index % 3))
            for r in run.records
        ]
        comparison.add_run(run.key, told if policy == "scorpio" else run.records)
    page = write_report(comparison).read_text()
    assert {path.stem for path in tmp_path.glob("*.png")} == PLOTS | {"reliability", "pit"}
    assert page.count("<figure>") == len(PLOTS) + 2
    assert "forecast" in page


def test_late_ones_are_counted_by_class(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path)
    key = sample_run("scorpio", 1.0, 0, 2).key
    late = record(index=2, ttft_slo_s=0.1)
    comparison.add_run(key, [record(), rejected(index=1), late, replace(late, index=3)])
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", write_report(comparison).read_text())
    place = len(cells) - 1 - cells[::-1].index("chat")
    assert cells[place + 1 : place + 6] == ["4", "25.0", "25.0", "0.0", "50.0"]


def test_page_stands_alone_and_is_small(folder: Path) -> None:
    path = folder / "report.html"
    page = path.read_text()
    assert path.stat().st_size < MAX_BYTES
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "url(" not in page
    assert "scorpio compare --trace &lt;x&gt; &amp; more" in page  # escaped


def test_page_says_what_the_summary_says(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    for point in Comparison.load(folder).points():
        assert point.attainment is not None
        assert f"<td>{100 * point.attainment.mean:.1f}</td>" in page
        assert point.policy in page


def test_same_data_same_report(tmp_path: Path) -> None:
    pages = [write_report(known_runs(tmp_path / name)).read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


def bare(tmp_path: Path) -> Comparison:
    """One run of one policy: no baseline, no bound, no samples, one class."""
    comparison = Comparison(tmp_path)
    run = sample_run("qoserve", 1.0, 0, 20)
    comparison.add_run(run.key, [replace(r, slo_class="only") for r in run.records])
    return comparison


def none_served(tmp_path: Path) -> Comparison:
    """Everything rejected or failed: no latency at all."""
    comparison = Comparison(tmp_path)
    key = sample_run("scorpio", 1.0, 0, 2).key
    for policy in ("fcfs", "scorpio"):
        broken = replace(record(**(NO_TOKENS | {"outcome": Outcome.FAILED})), ended_s=10.0)
        comparison.add_run(replace(key, policy=policy), [rejected(index=1), broken])
    return comparison


def no_promises(tmp_path: Path) -> Comparison:
    """Requests without SLOs, all at one instant: no rate is defined."""
    comparison = Comparison(tmp_path)
    key = sample_run("scorpio", 1.0, 0, 2).key
    free = {"ttft_slo_s": float("inf"), "tpot_slo_s": float("inf")}
    comparison.add_run(key, [record(index=i, **free) for i in range(3)])
    return comparison


def all_void(tmp_path: Path) -> Comparison:
    comparison = Comparison(tmp_path)
    run = sample_run("fcfs", 1.0, 0, 20)
    comparison.add_run(run.key, [replace(r, send_s=r.send_s + 1.0) for r in run.records])
    return comparison


def two_scenarios(tmp_path: Path) -> Comparison:
    comparison = known_runs(tmp_path)
    run = sample_run("fcfs", 1.0, 0, 20)
    comparison.add_run(replace(run.key, gpu="h100"), run.records)
    return comparison


@pytest.mark.parametrize(
    ("make", "figures"),
    [(bare, 6), (none_served, 6), (no_promises, 6), (all_void, 0), (two_scenarios, 12)],
)
def test_odd_comparisons_still_give_a_report(
    make: Callable[[Path], Comparison], figures: int, tmp_path: Path
) -> None:
    comparison = make(tmp_path)
    page = write_report(comparison).read_text()
    assert page.count("<figure>") == figures
    assert len(list(tmp_path.glob("*.png"))) == figures
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page).lower())


def test_no_runs_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        write_report(Comparison(tmp_path))
    assert not list(tmp_path.iterdir())


def test_many_policies_and_classes_are_drawn(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path)
    for policy in ("fcfs", "my-own"):
        run = sample_run("fcfs", 1.0, 0, 60)
        key = replace(run.key, policy=policy)
        records = [replace(r, slo_class=f"class {r.index % 9}") for r in run.records]
        comparison.add_run(key, records)
    assert len(largest_classes(comparison.points())) == 6
    assert class_plot(comparison.points(), "some load").name == "classes"


def test_cdf_counts_those_that_never_got_an_answer() -> None:
    records = [record(index=i, first_token_s=10.1 + i / 10, last_token_s=12.0) for i in range(3)]
    records.append(rejected(index=3))
    values, shares = cdf(records, lambda r: r.ttft_s)
    np.testing.assert_allclose(values, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75])


def test_cdf_of_tpot_leaves_one_token_answers_out() -> None:
    one = record(index=1, output_tokens=1, last_token_s=10.4)
    values, shares = cdf([record(), one], lambda r: r.tpot_s)
    assert (values.size, shares.tolist()) == (1, [1.0])
    assert cdf([one], lambda r: r.tpot_s)[0].size == 0


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (record(), "good"),
        (record(ttft_slo_s=0.1), "ttft"),
        (record(tpot_slo_s=0.01), "tpot"),
        (record(ttft_slo_s=0.1, tpot_slo_s=0.01), "both"),
        (record(e2e_slo_s=0.5), "e2e"),
        (rejected(), "rejected"),
        (record(outcome=Outcome.FAILED), "failed"),
        (record(outcome=Outcome.TIMED_OUT), "failed"),
    ],
)
def test_every_request_has_one_fate(one: RequestRecord, expected: str) -> None:
    assert fate(one) == expected


def interval(mean: float, half: float = 0.01) -> Interval:
    return Interval(mean, mean - half, mean + half, 3, 300)


def point(policy: str, attained: float, rate: float = 1.0, **changes: Any) -> LoadPoint:
    values: dict[str, Any] = {
        "scenario": Scenario("twin", "g", "t", "m"),
        "policy": policy,
        "rate_scale": rate,
        "offered_rps": 5.0 * rate,
        "runs": (),
        "void_runs": 0,
        "attainment": interval(attained),
        "goodput_rps": interval(attained * 5.0 * rate),
        "rejected_share": 0.1,
        "gain": None,
    }
    return LoadPoint(**(values | changes))


def test_findings_speak_of_the_load_where_most_is_at_stake() -> None:
    points = [
        point("fcfs", 0.98, 0.5),
        point("scorpio", 0.97, 0.5, gain=interval(-0.01, 0.005)),
        point("fcfs", 0.20, 2.0),
        point("fcfs-tuned", 0.60, 2.0),
        point("scorpio", 0.85, 2.0, gain=interval(0.65), bound_attainment=0.9, of_bound=0.944),
    ]
    assert focus_rate(points) == 2.0
    text = " ".join(findings(points))
    assert "At 10 requests/s (×2), scorpio kept its promises to 85.0 %" in text
    assert "65.0 points more (95 % interval 64.0 to 66.0)" in text
    assert "better than stock vLLM at 1, no different at 0 and worse at 1" in text
    assert "worse at 1 (2.5 requests/s (×0.5))" in text
    assert "strongest rival is fcfs-tuned, with 60.0 %" in text
    assert "at most 90.0 % well at this load; scorpio reaches 94 % of that ceiling" in text


def test_chance_is_not_sold_as_a_win() -> None:
    points = [point("fcfs", 0.80), point("scorpio", 0.81, gain=interval(0.01, 0.02))]
    assert "no certain difference (+1.0 points, 95 % interval -1.0 to +3.0)" in findings(points)[0]


def test_a_better_rival_is_named_as_such() -> None:
    points = [point("fcfs", 0.2), point("qoserve", 0.9), point("scorpio", 0.8)]
    assert any("best policy there is qoserve, with 90.0 %" in text for text in findings(points))


def test_weaknesses_are_told(tmp_path: Path) -> None:
    texts = " ".join(reservations(none_served(tmp_path).points()))
    assert "Only 1 seed per point" in texts
    assert "2 requests failed or timed out" in texts
    assert "not from a GPU" in texts
    void = " ".join(reservations([point("fcfs", 0.5, void_runs=2)]))
    assert "2 runs left out as void" in void


def test_styles_are_stable_and_known_policies_differ() -> None:
    names = ["fcfs", "fcfs-tuned", "mooncake", "qoserve", "scorpio-paper", "scorpio"]
    assert sorted(set(names), key=policy_order) == names
    assert len({policy_style(name).colour for name in names}) == len(names)
    assert policy_style("my-own") == policy_style("my-own")
