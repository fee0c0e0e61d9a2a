"""Run seeds and find what breaks: `python -m tests.simulation run|replay|shrink|report`.

make simulate N=200000                  # so many requests, from the first unrecorded seed
make simulate N=200000 ARGS=--fresh     # from seed 0, not recorded
python -m tests.simulation replay 42    # one seed, its log and its digest
python -m tests.simulation shrink 42    # the smallest case that breaks the same promise
python -m tests.simulation report       # what has been simulated so far
python -m tests.simulation report --write docs/results/simulation.md  # into the page
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.simulation import pool, record
from tests.simulation.case import Case, run_case
from tests.simulation.shrink import page, shrink

PORTION = 20_000  # requests to a line of the record


def main(arguments: list[str]) -> int:
    """0 when every promise was kept."""
    args = _parser().parse_args(arguments)
    pool.quiet()
    if args.act == "run":
        return _run(args.requests, args.workers, args.record, args.fresh)
    if args.act == "report":
        if args.write is None:
            print(record.report(record.merged([*record.published(), *record.read(args.record)])))
        else:
            record.publish(args.record, args.write)
        return 0
    case = Case(args.seed, frozenset(args.off), args.keep)
    if args.act == "shrink":
        print(page(*shrink(case)))
        return 0
    outcome = run_case(case, keep_log=True)
    print("\n".join(outcome.lines[-args.lines :]))
    print(f"digest {outcome.digest}; {outcome.violation or 'every promise kept'}")
    return int(bool(outcome.violation))


def _run(requests: int, workers: int, path: Path, fresh: bool) -> int:
    first = 0 if fresh else record.next_seed([*record.published(), *record.read(path)])
    broken, left = 0, requests
    while left > 0:
        seeds = record.seeds_for(first, min(left, PORTION))
        portion = pool.run_portion(seeds, workers)
        if not fresh:
            record.append(path, portion)
        print(
            f"seeds {first} to {seeds[-1]}: {portion.requests} requests, {portion.cpu_s:.0f} s of "
            f"processor time, {len(portion.violations)} broken, known: {portion.known}",
            flush=True,
        )
        for violation in portion.violations:
            print(f"  seed {violation['seed']}: {violation['what']}", flush=True)
        broken += len(portion.violations)
        first, left = seeds[-1] + 1, left - min(left, PORTION)
    return int(broken > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.simulation")
    parser.add_argument("--record", type=Path, default=record.RECORD)
    acts = parser.add_subparsers(dest="act", required=True)
    run = acts.add_parser("run")
    run.add_argument("--requests", type=int, default=PORTION)
    run.add_argument("--workers", type=int, default=pool.WORKERS)
    run.add_argument("--fresh", action="store_true", help="from seed 0, without the record")
    report = acts.add_parser("report")
    report.add_argument("--write", type=Path, help="a page with the marks of record.MARKS")
    for act in ("replay", "shrink"):
        one = acts.add_parser(act)
        one.add_argument("seed", type=int)
        one.add_argument("--off", type=lambda text: text.split(","), default=[])
        one.add_argument("--keep", type=_numbers, default=None)
        one.add_argument("--lines", type=int, default=10_000)
    return parser


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(part) for part in text.split(",") if part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
