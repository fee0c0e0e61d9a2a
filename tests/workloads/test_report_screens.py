"""Is the report for a phone, for the night, and for a manager first? And no axis with one tick."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.workloads.sample_runs import sample_run
from workloads.report.figure_style import finish, narrow, new_figure, plain_ticks, stamped, styled
from workloads.report.html import scenario_plots, write_report
from workloads.report.page_style import NARROW_PX
from workloads.results.records import Outcome, RequestRecord
from workloads.results.summary import Comparison

_WIDTH = re.compile(rb'<svg [^>]*width="([\d.]+)pt"', re.DOTALL)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three policies at two loads."""
    made = Comparison(tmp_path_factory.mktemp("report"))
    for policy in ("fcfs", "fcfs-tuned", "scorpio"):
        for scale in (0.5, 1.0):
            run = sample_run(policy, scale, 0, requests=200)
            told = [replace(r, **_forecast(r)) for r in run.records]
            made.add_run(run.key, told, timeline=run.timeline)
    return made


def _forecast(record: RequestRecord) -> dict[str, Any]:
    if record.outcome is not Outcome.FINISHED:
        return {}
    return {"predicted_ttft_s": 0.9 * (record.ttft_s or 1.0), "predicted_tpot_s": 0.03}


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return write_report(comparison).read_text()


def test_figures_reflow_on_a_narrow_screen(page: str) -> None:
    figures = re.findall(r"<picture>(.*?)</picture>", page)
    assert len(figures) >= 6
    for figure in figures:
        assert f"(max-width:{NARROW_PX}px)" in figure
        small, large = (
            float(found.group(1))
            for data in re.findall(r"base64,([\w+/=]+)", figure)
            if (found := _WIDTH.search(base64.b64decode(data))) is not None
        )
        assert small < 0.55 * large


def test_the_page_follows_the_screen(page: str) -> None:
    assert "prefers-color-scheme:dark" in page
    assert "width=device-width" in page
    head = re.findall(r"<th[^>]*>(.*?)</th>", page)
    assert head[:4] == ["policy", "good %", "95 % interval", "worst class %"]


def test_forecasts_are_folded_away_behind_what_decides(page: str) -> None:
    before, summary, after = page.partition("forecasts?</summary>")
    assert summary
    assert "Brier" not in before
    assert "Brier" in after.partition("</details>")[0]
    assert before.endswith("<details><summary>How good were the policies' own ")


def _drawn(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> Iterator[Figure]:
    seen: list[Figure] = []
    savefig = Figure.savefig

    def kept(self: Figure, *words: Any, **more: Any) -> None:
        seen.append(self)
        savefig(self, *words, **more)

    monkeypatch.setattr(Figure, "savefig", kept)
    scenario_plots(comparison.points())
    with narrow():
        scenario_plots(comparison.points())
    yield from seen


def test_no_axis_has_one_tick(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = list(_drawn(comparison, monkeypatch))
    assert len(figures) > 10
    for figure in figures:
        for shown in (axes for axes in figure.axes if axes.get_visible()):
            for axis in (shown.xaxis, shown.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = axis.get_majorticklocs()
                inside = np.count_nonzero((ticks >= low) & (ticks <= high))
                assert inside >= 2, (shown.get_title(), axis.axis_name)


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.9), (2.0, 9.0), (0.01, 1000.0)])
def test_a_log_axis_has_ticks_however_short(low: float, high: float) -> None:
    axes = new_figure(2.0).subplots()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    plain_ticks(axes.xaxis)
    ticks = axes.xaxis.get_majorticklocs()
    assert 2 <= np.count_nonzero((ticks >= low) & (ticks <= high)) <= 8


def test_a_stamp_is_on_the_picture() -> None:
    def picture() -> bytes:
        with styled():
            figure = new_figure(2.0)
            figure.subplots()
            return finish(figure, "x", "a figure").png

    plain = picture()
    with stamped("quick"):
        assert picture() != plain
    assert picture() == plain
