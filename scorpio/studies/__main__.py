"""Which results are made? `python -m scorpio.studies [quick] [NAME ...]`; `make results`.

Without a name: all studies. `quick` shows in minutes that everything works; its pages go to
out/results-quick and say nothing about any policy.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scorpio.studies.results import (
    PAGES,
    ROOT,
    STUDIES,
    DirtyTree,
    Header,
    header,
    run_studies,
    write_pages,
)
from scorpio.twin.pool import JobFailed

QUICK = "quick"
_QUICK_PAGES = Path("out/results-quick")


def main(words: list[str]) -> int:
    """0, or 2 with one line about what is wrong."""
    quick, names = QUICK in words, [word for word in words if word != QUICK]
    known = {study.name: study for study in STUDIES}
    for name in names:
        if name not in known:
            _say(f"no study '{name}'; valid: {', '.join(known)}, {QUICK}")
            return 2
    studies = [known[name] for name in names] or list(STUDIES)
    command = " ".join(["make results", *([f'ARGS="{" ".join(words)}"'] if words else [])])
    try:
        head = Header("-", "-", "-", command) if quick else header(command)
        kept = (_QUICK_PAGES / "runs") if quick else Path("out") / "results" / head.commit
        made = run_studies(studies, kept, quick, _say)
    except (DirtyTree, JobFailed) as error:
        _say(str(error))
        return 2
    pages = _QUICK_PAGES if quick else PAGES
    write_pages(made, head, pages, None if quick else ROOT)
    _say(f"{len(made)} pages in {pages}")
    return 0


def _say(line: str) -> None:
    print(f"results: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
