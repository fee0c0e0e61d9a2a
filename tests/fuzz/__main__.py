"""`make fuzz ARGS="parsers --runs 1000000"`: hostile input, by the million."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scorpio.live.progress import say
from tests.fuzz.parsers import fuzz_parser
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Exit code 1 when something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    what = parser.add_subparsers(required=True)
    parsers = what.add_parser("parsers", help="every parser of ours, guided by coverage")
    parsers.add_argument("--runs", type=int, default=1_000_000, help="inputs per parser")
    parsers.add_argument("--seed", type=int, default=1)
    parsers.add_argument("--only", nargs="*", choices=sorted(TARGETS), default=sorted(TARGETS))
    parsers.add_argument("--out", type=Path, default=Path("out/fuzz"), help="corpora, findings")
    parsers.set_defaults(run=_parsers)
    args = parser.parse_args()
    sys.exit(0 if args.run(args) else 1)


def _parsers(args: argparse.Namespace) -> bool:
    well = True
    for name in args.only:
        done = fuzz_parser(name, args.runs, args.seed, args.out)
        say(f"{name}: {'holds' if done.passed else 'FAILED'}, {done.runs:,} inputs,"
            f" {done.coverage} branches")  # fmt: skip
        if not done.passed:
            print(done.output)
        well &= done.passed
    return well


if __name__ == "__main__":
    main()
