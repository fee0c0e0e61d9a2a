"""Is `scorpio` stock vLLM when there is room? `python -m scorpio.studies.light_load`.

Both serve the same requests under the same stream of step noise. A ratio is the mean of `scorpio`
over that of `fcfs`, its 95 % interval that of the paired differences over requests and seeds
(the mean of `fcfs` taken as known); tokens/s is one number per run, so the seeds' extremes stand
there. Times are of the requests that both finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scorpio.studies.grid import OURS
from scorpio.studies.window import add_runs, engine, window_parser, workloads
from scorpio.twin.pool import Job, run_jobs
from scorpio.twin.run import TwinRun
from workloads.results.intervals import mean_interval
from workloads.results.records import RequestRecord

STOCK = "fcfs"
TIMES: dict[str, Callable[[RequestRecord], float | None]] = {
    "TTFT": lambda record: record.ttft_s,
    "TPOT": lambda record: record.tpot_s,
    "E2E": lambda record: record.e2e_s,
}
Pair = tuple[TwinRun, TwinRun]  # scorpio, fcfs


def attainment(pairs: Sequence[Pair]) -> str:
    """Of both, and the difference in points."""
    ours, stock = (
        [np.array([100.0 * record.good for record in runs[which].records]) for runs in pairs]
        for which in (0, 1)
    )
    points = mean_interval([a - b for a, b in zip(ours, stock, strict=True)])
    means = [np.mean([run.mean() for run in runs]) for runs in (ours, stock)]
    off = f"{points.mean:+.2f} ({points.low:+.2f}..{points.high:+.2f})"
    return f"{means[0]:.1f} / {means[1]:.1f}: {off}"


def ratio(pairs: Sequence[Pair], time_s: Callable[[RequestRecord], float | None]) -> str:
    """Mean time of scorpio over that of fcfs, with its paired interval."""
    both = [
        np.array(
            [
                (a, b)
                for mine, theirs in zip(ours.records, stock.records, strict=True)
                if (a := time_s(mine)) is not None and (b := time_s(theirs)) is not None
            ]
        )
        for ours, stock in pairs
    ]
    base_s = float(np.mean([run[:, 1].mean() for run in both]))
    off = mean_interval([(run[:, 0] - run[:, 1]) / base_s for run in both])
    return f"{1 + off.mean:.4f} ({1 + off.low:.4f}..{1 + off.high:.4f})"


def tokens_per_s(run: TwinRun) -> float:
    """Output tokens over the time from the first request to the last answer."""
    first_s = min(record.send_s for record in run.records)
    last_s = max(record.end_s for record in run.records)
    return sum(record.output_tokens for record in run.records) / (last_s - first_s)


def main() -> None:
    """One line per load."""
    parser = window_parser(__doc__, "0.2,0.35")
    add_runs(parser)
    args = parser.parse_args()
    config = engine(args.gpu)
    columns = ("load", "attainment %", *TIMES, "tokens/s", "stock steps %", "refused")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for scale in args.rate_scale:
        jobs = [Job(config, key, p) for key in workloads(args, scale) for p in (OURS, STOCK)]
        runs = run_jobs(jobs, args.workers)
        pairs = list(zip(runs[::2], runs[1::2], strict=True))
        speed = [tokens_per_s(ours) / tokens_per_s(stock) for ours, stock in pairs]
        share = [100.0 * ours.stock_steps / ours.steps for ours, _ in pairs]
        refused = sum(r.reject_reason is not None for ours, _ in pairs for r in ours.records)
        cells = (
            f"x{scale:g}",
            attainment(pairs),
            *(ratio(pairs, time_s) for time_s in TIMES.values()),
            f"{np.mean(speed):.4f} ({min(speed):.4f}..{max(speed):.4f})",
            f"{np.mean(share):.1f}",
            f"{refused}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
