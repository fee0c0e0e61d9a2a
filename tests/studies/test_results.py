"""Do pages come from their rows alone, is nothing run twice, and is a dirty tree refused?"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scorpio.studies import results
from scorpio.studies.grid import RIVALS
from scorpio.studies.grid import STUDY as GRID
from scorpio.studies.loads import knee
from scorpio.studies.results import DirtyTree, Header, run_studies, write_pages
from scorpio.studies.study import Cells, Found, Page, Rows, Study, shown
from scorpio.twin.pool import JobFailed
from workloads.errors import MissingTraceError

HEAD = Header("abc1234", "2026-01-02", "2 x CPU", "make results")


@dataclass(frozen=True)
class Task:
    """Notes that it ran; fails while a file says so."""

    number: int
    folder: Path

    @property
    def label(self) -> str:
        return f"task {self.number}"

    def run(self) -> int:
        if (self.folder / f"fail {self.number}").exists():
            raise ValueError("as asked")
        (self.folder / f"ran {self.number}").write_text("x")
        return self.number**2


def study(folder: Path, name: str = "squares", missing: bool = False) -> Study:
    def cells(quick: bool) -> Cells:
        if missing:
            raise MissingTraceError("no such trace here")
        return [Task(number, folder) for number in range(2 if quick else 4)]

    def rows(found: Found) -> Rows:
        return [{"task": task.label, "square": square} for task, square in found]

    def page(made: Rows) -> Page:
        text = "\n".join(f"{row['task']}: {row['square']}" for row in made)
        return Page(text, {f"{name}.png": b"png"}, {("page.md", "squares"): f"{len(made)}\n"})

    return Study(name, "What is the square?", cells, rows, page)


def test_every_run_once_and_on_from_where_it_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "fail 3").write_text("")
    with pytest.raises(JobFailed, match="task 3: ValueError: as asked"):
        run_studies([study(tmp_path)], tmp_path / "kept", False, said.append)
    for path in tmp_path.glob("ran *"):
        path.unlink()
    (tmp_path / "fail 3").unlink()
    kept = {json.loads(p.read_text())["run"] for p in (tmp_path / "kept").glob("*.json")}
    made = run_studies([study(tmp_path)], tmp_path / "kept", False, said.append)
    assert {f"task {path.name.split()[1]}" for path in tmp_path.glob("ran *")} == (
        {f"task {n}" for n in range(4)} - kept
    )
    assert [row["square"] for row in made[0][1]] == [0, 1, 4, 9]


def test_a_study_without_its_trace_is_left_out_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    both = [study(tmp_path, "other", missing=True), study(tmp_path)]
    made = run_studies(both, tmp_path / "kept", True, said.append)
    assert [one.name for one, _ in made] == ["squares"]
    assert said[0] == "other: left out: no such trace here"


def test_pages_blocks_and_index(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("before\n<!-- squares: begin -->\n<!-- squares: end -->\nx\n")
    made = run_studies([study(tmp_path)], tmp_path / "kept", True, lambda line: None)
    write_pages(made, HEAD, tmp_path / "pages", tmp_path)
    page = (tmp_path / "pages" / "squares.md").read_text()
    assert page == (
        "# What is the square?\n\nCommit abc1234, 2026-01-02, 2 x CPU; `make results`.\n\n"
        "task 0: 0\ntask 1: 1\n"
    )
    assert results.read_page(tmp_path / "pages" / "squares.json") == (HEAD, made[0][1])
    assert (tmp_path / "pages" / "squares.png").read_bytes() == b"png"
    assert (
        "\n- [What is the square?](squares.md)\n" in (tmp_path / "pages" / "README.md").read_text()
    )
    block = "before\n<!-- squares: begin -->\n2\n<!-- squares: end -->\nx\n"
    assert (tmp_path / "page.md").read_text() == block


def test_a_dirty_tree_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)

    def git(*words: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    code, page = tmp_path / "scorpio" / "a.py", tmp_path / "page.md"
    code.parent.mkdir()
    code.write_text("1")
    git("add", "scorpio")
    git("commit", "-m", "one")
    head = results.header("make results")
    assert len(head.commit) == 7
    page.write_text("a page makes no run old, committed or not")
    assert results.header("make results").commit == head.commit
    git("add", "page.md")
    git("commit", "-m", "two")
    assert results.header("make results").commit == head.commit
    code.write_text("2")
    with pytest.raises(DirtyTree, match="commit first"):
        results.header("make results")


def test_the_knee_lies_on_a_straight_line() -> None:
    points = [(0.5, 100.0), (1.0, 98.0), (1.5, 90.0), (2.0, 95.0)]
    assert knee(points, 99.0) == pytest.approx(0.75)
    assert knee(points, 94.0) == pytest.approx(1.25)
    assert knee(points, 100.5) is None
    assert knee(points, 80.0) == float("inf")


def test_numbers_for_people() -> None:
    assert shown([1.25, -0.04, 2.0], 1, sign=True) == "+1.2 (-0.0 to +2.0)"
    assert shown([1.0, 0.5, 2.0], 1, sign=True) == "**+1.0 (+0.5 to +2.0)**"
    assert shown(None) == "–"


def test_a_page_is_made_of_its_rows_alone() -> None:
    def row(ours: float, rival: float) -> dict[str, Any]:
        own = {
            "trace": "t",
            "mix": "six",
            "load": 1.6,
            "gpu": "a100-x",
            "ours": ours,
            "broken": 1.0,
        }
        shares = dict.fromkeys(RIVALS, 50.0) | {"scorpio": ours, "qoserve": rival}
        rivals = {"rival": "qoserve", "rivals": rival, "shares": shares}
        return own | rivals | {"margin": round(ours - rival, 2)}

    text = GRID.page([row(90.0, 80.0), row(70.0, 70.6)]).text
    assert text.startswith("2 cells: in 1 of them Scorpio is more than 0.5 points behind")
    assert "|  (`t`) | a100 | six | x1.6 | 90.0 | 80.0 (`qoserve`) | +10.0 | 1.0 |" in text
    assert "In 2 cells no rival keeps 90 %: there\nthe mean of Scorpio is 80.0 %" in text
    assert "best rivals 75.3 %: 1.06 times" in " ".join(text.split())
    assert "| `scorpio` | 80.0 |\n| `qoserve` | 75.3 |" in text
