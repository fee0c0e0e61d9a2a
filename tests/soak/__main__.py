"""`make soak ARGS="--minutes 100"`: the real server under load for hours, and what it holds.

Writes soak.json (as it goes), soak.png and soak.md into --out; exit code 1 when a promise is
broken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from scorpio.live.host.signals import unwinding_signals
from scorpio.live.progress import say
from scorpio.studies.results import INPUTS, header
from tests.engine_server import KV_BLOCKS, MODEL, serve_tiny
from tests.soak.page import publish
from tests.soak.record import SoakRecord
from tests.soak.run import Periods, Soak
from tests.soak.stock import serve_stock
from tests.soak.verdict import BROKEN, findings


def main() -> None:
    """One soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=100.0)
    parser.add_argument("--rate", type=float, default=11.0, help="requests/s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", default="scorpio")
    parser.add_argument("--stock", action="store_true", help="vLLM without us, to compare with")
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    args = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    record = SoakRecord(
        header(
            "make soak" + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""),
            (*INPUTS, "tests/soak"),
            clean=False,
        ),
        minutes=args.minutes,
        rate_rps=args.rate,
        seed=args.seed,
    )
    with (
        tempfile.TemporaryDirectory(prefix="scorpio-soak-") as work,
        unwinding_signals(),
        serve_stock(Path(work)) if args.stock else serve_tiny(Path(work), args.policy) as server,
    ):
        record.kv_blocks = KV_BLOCKS
        periods = Periods(quiet_s=min(300.0, 15.0 * args.minutes))  # four looks at least
        run = Soak(server.url, server.process, MODEL, record, periods)
        asyncio.run(run.run(args.out / "soak.json", say))
    page = publish(record, args.out)
    print(page.read_text())
    print(f"to publish: python -m tests.soak.page {args.out / 'soak.json'} --out docs/results")
    sys.exit(any(finding.verdict == BROKEN for finding in findings(record)))


if __name__ == "__main__":
    main()
