"""`python -m tests.rehearsal --write`: is every act of operations what docs/operate.md says?"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from scorpio.files import write_atomic
from scorpio.studies.results import PAGES, header
from tests.rehearsal.run import markdown, rehearse


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    parser.add_argument("--write", action="store_true", help="docs/results/rehearsal.md")
    args = parser.parse_args()
    made_by = header("python -m tests.rehearsal --write", clean=args.write)
    with tempfile.TemporaryDirectory(prefix="scorpio-rehearsal-") as folder:
        began_s = time.monotonic()

        def say(line: str) -> None:
            print(f"{time.monotonic() - began_s:5.0f} s {line}", file=sys.stderr, flush=True)

        found = rehearse(Path(folder), say, load_s=240.0, model="smollm2")
        say("done")
    page = markdown(found, made_by)
    if args.write:
        write_atomic(PAGES / "rehearsal.md", page)
    else:
        print(page)


if __name__ == "__main__":
    main()
