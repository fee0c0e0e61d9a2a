"""`python -m tests.tools --write`: what do the tools say that people have? Some ten minutes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scorpio.files import write_atomic
from scorpio.studies.results import PAGES, header, index
from tests.tools.page import markdown, run_tools
from tests.tools.scenes import SCENES


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools", description=__doc__)
    parser.add_argument("--write", action="store_true", help="docs/results/tools.md")
    parser.add_argument("--venvs", type=Path, default=Path("out/tools"), help="of the tools")
    names = [scene.__name__ for scene in SCENES]
    parser.add_argument("--only", choices=names, default="", help="one tool; not with --write")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write is of all tools")
    made_by = header("python -m tests.tools --write", clean=args.write)
    runs = run_tools(args.venvs.resolve(), args.only, lambda line: print(line, file=sys.stderr))
    page = markdown(runs, made_by)
    if args.write:
        write_atomic(PAGES / "tools.md", page)
        write_atomic(PAGES / "README.md", index(PAGES))
    else:
        print(page)


if __name__ == "__main__":
    main()
