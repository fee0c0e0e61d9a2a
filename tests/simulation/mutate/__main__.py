"""Would the tests notice if a line of core or engine were another one?

    python -m tests.simulation.mutate --sample 600 --seed 1      # goes on where the record ends
    python -m tests.simulation.mutate --again                    # judges the survivors once more
    python -m tests.simulation.mutate --report --write docs/results/simulation.md

Mutants are drawn from all possible ones by the seed. The unit tests of both packages, the
conformance suite and twelve seeds of the simulation judge them, after one run of all these (kept in
`reach.jsonl`) has told which of them could notice which mutant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scorpio.studies.marked_block import fill
from scorpio.studies.results import header
from tests.simulation.mutate import judge, reach
from tests.simulation.mutate.mutants import Mutant, place, sample
from tests.simulation.mutate.record import Row, add, read, report

FOLDER = Path("out/simulation")


def main(arguments: list[str]) -> int:
    """Judge what is wanted, going on where the record ends."""
    args = _parser().parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":  # tests must do the same when they are run again
        module = [sys.executable, "-m", "tests.simulation.mutate"]
        os.execve(sys.executable, [*module, *arguments], os.environ | {"PYTHONHASHSEED": "0"})
    record = args.folder / "mutants.jsonl"
    if not args.report:
        drawn = sample(args.seed, args.sample)
        reach.preload()  # for all processes that are forked from here on
        if not args.known:
            _in_child(lambda: reach.ask(args.folder / "reach.jsonl", drawn, args.tests))
        done = read(record)
        wanted = [m for m in drawn if m.key in done and not done[m.key].killed_by] \
            if args.again else [m for m in drawn if m.key not in done]  # fmt: skip
        _judge(wanted[: args.at_most], args, record)
    rows = list(read(record).values())
    command = f"python -m tests.simulation.mutate --sample {args.sample} --seed {args.seed}"
    text = f"{header(command, clean=False)}\n\n{report(rows)}"
    print(text)
    if args.write:
        fill(args.write, "mutants", text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutate")
    parser.add_argument("--sample", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-most", type=int, default=1 << 30, help="mutants in this run")
    parser.add_argument("--budget-s", type=float, default=60.0,
                        help="processor time a mutant; who outlives it has survived")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tests", nargs="+", default=reach.TESTS, help="tests to ask: all")
    parser.add_argument("--known", action="store_true", help="ask no test that was not asked yet")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the record")
    parser.add_argument("--again", action="store_true", help="judge only recorded survivors")
    parser.add_argument("--report", action="store_true", help="judge nothing")
    parser.add_argument("--write", type=Path, help="a page with a marked block for the report")
    return parser


def _judge(wanted: list[Mutant], args: argparse.Namespace, record: Path) -> None:
    """Each by the tests that could notice it and have not let it live before."""
    known = reach.read_reach(args.folder / "reach.jsonl")
    before = {key: set(row.asked) for key, row in read(record).items()}
    fresh = {m.key for m in wanted if judge.at_import(m, known)}
    tests = {m.key: [t for t in judge.tests_of(m, known, m.key in fresh)
                     if t.mark not in before.get(m.key, ())] for m in wanted}  # fmt: skip
    paid = {m.key: judge.within(tests[m.key], args.budget_s) for m in wanted}

    def done(mutant: Mutant, killer: str, took_s: float) -> None:
        key, left = mutant.key, len(tests[mutant.key]) - len(paid[mutant.key])
        asked = sorted({t.mark for t in paid[key]} | before.get(key, set()))
        how = (killer, took_s) if killer else (killer, took_s, tuple(asked), left, *place(mutant))
        add(record, Row(mutant.path, mutant.line, mutant.index, mutant.change, *how))
        code = "" if killer else " | ".join(place(mutant))
        print(f"{mutant.path}:{mutant.line} {mutant.change}: {killer or 'SURVIVED'} "
              f"{took_s:.1f} s {code}", file=sys.stderr, flush=True)  # fmt: skip

    def work(part: list[Mutant]) -> None:
        swaps = [(m, paid[m.key]) for m in part if m.key not in fresh]
        # The tests are imported in a child of their own: those of `fresh` must not have been.
        _in_child(lambda: judge.judge_in_place(swaps, done))
        for mutant in part:
            if mutant.key in fresh:
                judge.judge_imported(mutant, paid[mutant.key], done)

    _parallel([partial(work, wanted[i :: args.workers]) for i in range(args.workers)])


def _in_child(work: Callable[[], None]) -> None:
    _parallel([work])


def _parallel(works: list[Callable[[], None]]) -> None:
    """Each in a forked process; all must end well."""
    children = list[int]()
    for work in works:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(pid)
    failed = [pid for pid in children if os.waitpid(pid, 0)[1] != 0]
    if failed:
        raise SystemExit("a part of the work failed; what it had done is recorded")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
