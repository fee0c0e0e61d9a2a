"""Are the worst class, the worst tenant and Jain's index what the records say, wherever shown?"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.workloads.sample_runs import sample_run
from tests.workloads.test_records import record, rejected
from workloads.report.findings import findings
from workloads.report.html import write_results
from workloads.report.result_table import print_tables
from workloads.results.fairness import LEAST_REQUESTS, Fairness, Group, fairness, jain_index
from workloads.results.records import RequestRecord
from workloads.results.results_csv import ALL, COLUMNS
from workloads.results.summary import Comparison


def _mixed() -> list[RequestRecord]:
    """Two tenants and two classes, a quarter each; all of tenant b's chat is refused."""
    made = []
    for index in range(4 * LEAST_REQUESTS):
        tenant, slo_class = "ab"[index % 2], ("chat", "agent")[index // 2 % 2]
        make = rejected if (tenant, slo_class) == ("b", "chat") else record
        made.append(make(index=index, tenant=tenant, slo_class=slo_class))
    return made


def test_the_worst_and_jain_by_hand() -> None:
    found = fairness(_mixed())
    assert found.worst_class == Group("chat", 0.5)
    assert found.worst_tenant == Group("b", 0.5)
    assert found.jain == pytest.approx((1 + 0.5) ** 2 / (2 * (1 + 0.25)))


@pytest.mark.parametrize(
    ("shares", "index"),
    [([0.7, 0.7, 0.7], 1.0), ([1.0, 0.0, 0.0, 0.0], 0.25), ([0.0, 0.0], None)],
)
def test_jain_index(shares: list[float], index: float | None) -> None:
    assert jain_index(shares) == (None if index is None else pytest.approx(index))


def test_a_group_of_a_few_requests_says_nothing() -> None:
    records = _mixed()[:-3]
    few = [r for r in records if r.tenant == "a"] + [r for r in records if r.tenant == "b"][:5]
    assert fairness(few).worst_tenant is None
    assert fairness(few).jain is None
    assert fairness([record(index=i) for i in range(99)]) == Fairness()


def _comparison(out: Path) -> Comparison:
    comparison = Comparison(out)
    for policy in ("fcfs", "scorpio"):
        for seed in (0, 1):
            run = sample_run(policy, 1.0, seed, requests=300)
            comparison.add_run(run.key, run.records)
    return comparison


def test_csv_has_a_line_for_each_policy_load_and_class(tmp_path: Path) -> None:
    comparison = _comparison(tmp_path)
    write_results(comparison)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert set(rows[0]) == set(COLUMNS)
    classes = {r.slo_class for run in comparison.runs for r in run.records}
    assert len(rows) == 2 * (1 + len(classes))
    for point in comparison.points():
        mine = [row for row in rows if row["policy"] == point.policy]
        (whole,) = [row for row in mine if row["class"] == ALL]
        parts = [row for row in mine if row["class"] != ALL]
        assert {row["class"] for row in parts} == classes
        for name in ("sent", "good"):
            assert int(whole[name]) == sum(int(row[name]) for row in parts)
        assert point.attainment is not None
        assert float(whole["attainment"]) == pytest.approx(point.attainment.mean, rel=1e-5)
        assert float(whole["attainment_low"]) == pytest.approx(point.attainment.low, rel=1e-5)
        shares = {row["class"]: float(row["attainment"]) for row in parts}
        assert whole["worst_class"] == min(shares, key=lambda name: shares[name])
        assert sum(float(row["goodput_rps"]) for row in parts) == pytest.approx(
            float(whole["goodput_rps"]), rel=1e-3
        )
        for row in mine:
            low, mean, high = (float(row[f"attainment{end}"]) for end in ("_low", "", "_high"))
            assert low <= mean <= high


def test_it_is_on_the_screen_in_the_report_and_in_words(tmp_path: Path) -> None:
    comparison = _comparison(tmp_path)
    points = comparison.points()
    worst = points[1].fairness
    assert worst is not None
    assert worst.worst_class is not None
    shown = f"{100 * worst.worst_class.attainment:.1f} {worst.worst_class.name}"
    screen = Console(width=80, file=io.StringIO(), force_terminal=False)
    print_tables(points, screen)
    assert isinstance(screen.file, io.StringIO)
    printed = screen.file.getvalue()
    assert shown in printed
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 80
    write_results(comparison)
    assert shown in (tmp_path / "report.html").read_text()
    assert any(f"class {worst.worst_class.name} (" in text for text in findings(points))


def test_tries_are_shown_where_there_are_some(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path)
    run = sample_run("scorpio", 1.0, 0, requests=30)
    again = [record(index=99, tries=3, send_s=1.0, last_send_s=1.001)]
    comparison.add_run(run.key, [*run.records, *again])
    screen = Console(width=100, file=io.StringIO())
    print_tables(comparison.points(), screen)
    assert isinstance(screen.file, io.StringIO)
    assert "good % in last try" in screen.file.getvalue()
    assert f"{33 / 31:.2f}" in screen.file.getvalue()
