"""Does `scorpio study` list, run and resume the published studies?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.studies.questions import QUESTIONS


def test_the_list_is_that_of_the_pages() -> None:
    from scorpio.studies.results import STUDIES

    assert [study.name for study in STUDIES] == list(QUESTIONS)
    done = CliRunner().invoke(app, ["study"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(QUESTIONS)


def test_a_wrong_name_is_told_before_vllm_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from scorpio.cli.app import app\n"
        "try: app(['study', 'laods', '--out', sys.argv[1]])\n"
        "finally: print('vllm' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown study 'laods'; valid: ablation, " in done.stderr
    assert done.stderr.rstrip().endswith("False")
    assert not (tmp_path / "out").exists()


def test_a_study_is_run_once(tmp_path: Path) -> None:
    words = ["study", "light_load", "--quick", "--out", str(tmp_path)]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    page = tmp_path / "light_load.md"
    assert first.stdout.splitlines()[-1] == str(page)
    assert page.read_text().startswith(f"# {QUESTIONS['light_load']}\n\nCommit ")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("runs/*/*.json")}
    again = CliRunner().invoke(app, words)
    assert f"{len(kept)} runs, {len(kept)} of them known" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("runs/*/*.json")} == kept
