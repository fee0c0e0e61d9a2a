"""How do studies become pages? Every run once, on all cores, kept as it ends; then pages and
blocks.

A run that was killed goes on where it stopped: what a run returned is a file of its own, below the
commit it was made from. That is the last one that changed what runs depend on (`INPUTS`), so that
a commit of pages or tests makes no run old; these folders have to be clean.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from predictors.latency.artifact import this_machine
from scorpio import __version__
from scorpio.files import write_atomic
from scorpio.studies import (
    autoscale,
    drafts,
    fallback,
    fidelity,
    fleet,
    grid,
    lengths,
    light_load,
    loads,
    mistakes,
    quotes,
    step_tracking,
)
from scorpio.studies.ablation import study as ablation
from scorpio.studies.marked_block import fill
from scorpio.studies.paper import study as paper
from scorpio.studies.robustness import study as robustness
from scorpio.studies.study import Page, Rows, Study
from scorpio.twin.pool import Task, run_jobs
from workloads.errors import WorkloadError

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "results"
STUDIES: tuple[Study, ...] = (
    loads.STUDY,
    grid.STUDY,
    light_load.STUDY,
    lengths.STUDY,
    drafts.STUDY,
    fleet.STUDY,
    fallback.STUDY,
    autoscale.STUDY,
    ablation.STUDY,
    robustness.STUDY,
    step_tracking.STUDY,
    quotes.STUDY,
    mistakes.STUDY,
    fidelity.STUDY,
    paper.STUDY,
)
Say = Callable[[str], None]
INPUTS = ("scorpio", "workloads", "predictors", "pyproject.toml")  # what a run depends on
_INDEX = """\
Each page is written by the command in its first line. The numbers behind it are in the JSON file of
the same name."""


class DirtyTree(RuntimeError):
    """Pages name a commit; with changes that are in none they would name the wrong one."""


@dataclass(frozen=True, slots=True)
class Header:
    """What every page says of itself, in one line."""

    commit: str
    date: str
    machine: str
    command: str

    def __str__(self) -> str:
        return f"Commit {self.commit}, {self.date}, {self.machine}; `{self.command}`."


def header(command: str, inputs: Sequence[str] = INPUTS, *, clean: bool = True) -> Header:
    """Of the last commit that changed a run, now and here. A changed tree raises DirtyTree, or is
    marked with a + where it need not be `clean`."""
    changed = _git("status", "--porcelain", "--", *inputs)
    if changed and clean:
        raise DirtyTree(f"commit first, or pages would name a wrong commit:\n{changed}")
    commit = _git("log", "-1", "--format=%h", "--abbrev=7", "--", *inputs)
    return _header(commit + ("+" if changed else ""), command)


def header_anywhere(command: str) -> Header:
    """The same where there is no checkout: the version stands for the commit."""
    try:
        return header(command, clean=False)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return _header(f"of {__version__}", command)


def _header(commit: str, command: str) -> Header:
    here, today = this_machine(), datetime.datetime.now(datetime.UTC).date().isoformat()
    return Header(commit, today, f"{here.cores} x {here.cpu}", command)


def run_studies(
    studies: Sequence[Study], kept: Path, quick: bool, say: Say
) -> list[tuple[Study, Rows]]:
    """Every run that is not yet in `kept`; then the rows. A study whose trace is not on this
    machine is left out, and said.

    Raises JobFailed: a run died; those that ended stay in `kept`.
    """
    wanted: list[tuple[Study, list[Task[Any]]]] = []
    for study in studies:
        try:
            wanted.append((study, list(study.cells(quick))))
        except WorkloadError as error:
            say(f"{study.name}: left out: {error}")
    all_of_them = {task.label: task for _, tasks in wanted for task in tasks}
    missing = [task for label, task in all_of_them.items() if not _file(kept, label).exists()]
    say(f"{len(all_of_them)} runs, {len(all_of_them) - len(missing)} of them known")
    started_s, ended = time.monotonic(), 0

    def done(number: int, result: Any) -> None:
        nonlocal ended
        ended += 1
        task = missing[number]
        write_atomic(_file(kept, task.label), json.dumps({"run": task.label, "result": result}))
        if ended % 20 == 0 or ended == len(missing):
            took_s = time.monotonic() - started_s
            left_s = took_s / ended * (len(missing) - ended)
            say(f"{ended} of {len(missing)}, {took_s / 60:.0f} min, about {left_s / 60:.0f} to go")

    run_jobs(missing, done=done)
    return [
        (study, study.rows([(task, _read(kept, task.label)) for task in tasks]))
        for study, tasks in wanted
    ]


def write_pages(
    made: Sequence[tuple[Study, Rows]], head: Header, pages: Path, root: Path | None
) -> None:
    """NAME.md, NAME.json and figures for each study, the index, and the marked blocks below `root`
    (None: none are filled)."""
    for study, rows, rendered in [(study, rows, study.page(rows)) for study, rows in made]:
        content = {"header": asdict(head), "rows": rows}
        for name, png in rendered.figures.items():
            write_atomic(pages / name, png)
        write_atomic(pages / f"{study.name}.json", json.dumps(content, indent=1) + "\n")
        write_atomic(pages / f"{study.name}.md", page_text(study, rendered, head))
        if root is not None:
            for (page, name), text in rendered.blocks.items():
                fill(root / page, name, text)
    write_atomic(pages / "README.md", index(pages))


def page_text(study: Study, page: Page, head: Header) -> str:
    """The whole page."""
    return f"# {study.question}\n\n{head}\n\n{page.text.rstrip()}\n"


def index(pages: Path) -> str:
    """What is in the folder: the question of each page."""
    lines = []
    for path in sorted(pages.glob("*.md")):
        if path.name != "README.md":
            question = path.read_text().splitlines()[0].removeprefix("# ")
            lines.append(f"- [{question}]({path.name})\n")
    return f"# Results\n\n{_INDEX}\n\n{''.join(lines)}"


def read_page(path: Path) -> tuple[Header, Rows]:
    """The JSON behind a page."""
    content: Mapping[str, Any] = json.loads(path.read_text())
    return Header(**content["header"]), content["rows"]


def _file(kept: Path, label: str) -> Path:
    return kept / f"{hashlib.blake2b(label.encode(), digest_size=12).hexdigest()}.json"


def _read(kept: Path, label: str) -> Any:
    return json.loads(_file(kept, label).read_text())["result"]


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
