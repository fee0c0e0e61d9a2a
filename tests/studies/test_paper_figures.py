"""The figures of the paper: steps from before chunked prefill, and what each figure draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scorpio.studies.paper.cases import Case, azure_minutes, sharegpt
from scorpio.studies.paper.figures import FULL, QUICK, figure_names, run_figures
from scorpio.twin.engine.runner import StepWork
from tests.twin.driving import TOY, arrival, make_loop
from workloads.errors import UnknownName


def test_a_mixed_step_comes_apart_and_others_do_not() -> None:
    mixed = StepWork(3, 900, 40, 1600.0, 80.0)
    assert mixed.apart() == (StepWork(0, 0, 40, 1600.0, 80.0), StepWork(3, 900))
    for whole in (StepWork(3, 900), StepWork(0, 0, 40, 1600.0, 80.0)):
        assert whole.apart() == (whole,)


def test_prefills_apart_hold_up_the_decodes() -> None:
    """r0 decodes when r1 (40 tokens) comes: one mixed step, or one of each, 11 ms and 14 ms."""
    ends = []
    for gpu in (TOY, replace(TOY, mixed_steps=False)):
        loop = make_loop(gpu=gpu)
        loop.run([arrival(0, 0.0, prompt=5, output=12), arrival(1, 0.05, prompt=40, output=1)])
        ends.append(loop.ledger.entries["r0000000"].last_s)
    assert ends[1] - ends[0] == pytest.approx(0.011 - 0.0001)


def test_every_figure_is_drawn_and_shared_runs_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorpio.studies.paper.figures.POLICIES", ("fcfs", "scorpio-paper"))
    loads = {"prefill-first": (20.0,), "chunked": (20.0,)}
    tiny = replace(QUICK, requests=6, minutes=0.02, qps=loads)
    seen: list[tuple[int, int, str]] = []
    rows = run_figures(
        figure_names(), tmp_path, tiny, 6.0, "as typed", 1, lambda *told: seen.append(told)
    )
    for name in ("load", "cumulative", "guards", "overhead"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        written = json.loads((tmp_path / f"{name}.json").read_text())
        assert (written["command"], written["quick"]) == ("as typed", True)
        assert len(written["rows"]) == len(rows[name])
    # load 4, Azure 4, ablation 2 x 2 of its own; overhead and the rest of the ablation are shared
    assert seen[-1][:2] == (12, 12)
    assert {row["engine"] for row in rows["load"]} == {"prefill-first", "chunked"}
    assert [row["guards"] for row in rows["guards"]][:4] == [
        "stock vLLM", "TTFT guard", "TPOT guard", "both",
    ]  # fmt: skip
    stock, planned = rows["overhead"][:2]
    assert stock["plan_us"] == 0.0 < planned["plan_us"]
    last = rows["cumulative"][0]
    assert len(last["t_s"]) == len(last["count"]) <= last["sent"]


def test_loads_are_those_of_the_paper() -> None:
    load = sharegpt(14.0, 1, 512).requests()
    assert len(load) == 512
    assert len(load) / load[-1].send_s == pytest.approx(14.0, rel=0.15)
    assert Case("chunked", "fcfs", sharegpt(14.0, 1, 512)).qps == 14.0
    assert set(FULL.qps["prefill-first"]) == {10.0, 12.0, 14.0, 16.0, 18.0, 20.0}
    minute = azure_minutes("azure-conv-synth", 1.0)
    assert minute.requests()[-1].send_s < 60.0


def test_unknown_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown figure 'nope'; valid: cumulative"):
        run_figures(["nope"], tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()
