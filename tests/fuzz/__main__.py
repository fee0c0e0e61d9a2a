"""`make fuzz ARGS="parsers --runs 1000000"`: hostile input, by the million."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from scorpio.live.host.signals import unwinding_signals
from scorpio.live.progress import say
from tests.engine_server import serve_tiny
from tests.fuzz.campaign import Campaign, run_campaign
from tests.fuzz.leaks import leaks
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
    bodies = what.add_parser("bodies", help="hostile requests to a real server")
    bodies.add_argument("--count", type=int, default=100_000, help="of this portion")
    bodies.add_argument("--seed", type=int, default=1)
    bodies.add_argument("--out", type=Path, default=Path("out/fuzz"), help="bodies.json, goes on")
    bodies.set_defaults(run=_bodies)
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


def _bodies(args: argparse.Namespace) -> bool:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    path = args.out / "bodies.json"
    campaign = Campaign.read(path, args.seed)

    def after(now: Campaign) -> None:
        server.process.check_alive()
        now.write(path)
        answers = ", ".join(f"{n:,} x {status}" for status, n in sorted(now.answers.items()))
        say(f"{now.done:,} sent in {now.hours:.2f} h: {answers}; slowest {now.slowest_s:.1f} s,"
            f" {len(now.findings)} kinds of fault")  # fmt: skip

    with (
        tempfile.TemporaryDirectory(prefix="scorpio-fuzz-") as work,
        unwinding_signals(),
        serve_tiny(Path(work), policy="scorpio") as server,
    ):
        asyncio.run(run_campaign(campaign, server.url, args.count, after))
        left = asyncio.run(leaks(server))
    for number, status, text in campaign.findings:
        print(f"shot {number}: {status} {text}")
    for line in left:
        print(line)
    return not campaign.findings and not left


if __name__ == "__main__":
    main()
