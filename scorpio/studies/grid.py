"""Is `scorpio` ever worse than a rival? `python -m scorpio.studies.grid --out FILE`.

Every trace x mix x GPU x load, each policy on the same requests in the twin. One line per cell:
attainment of `scorpio`, of the best rival, and the difference in points, mean over the seeds.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scorpio.studies.window import engine
from scorpio.twin.pool import Job, run_jobs
from scorpio.twin.run import TwinRun
from workloads.load import LoadKey

OURS = "scorpio"
RIVALS = ("fcfs", "fcfs-tuned", "qoserve", "mooncake", "priority-edf")
WINDOWS = {
    "azure-conv": "2000:2600",
    "mooncake": "1000:1200",
    "servegen-r1": "1000:1800",  # answers last 25 s: a shorter window is all start-up
    "sharegpt-poisson": None,
    "gamma-cv5": "0:600",
}
MIXES = ("six", "artefact-3", "product")
GPUS = ("a100-llama-3.1-8b", "h100-llama-3.1-8b")
LOADS = (0.2, 0.4, 0.8, 1.2, 1.6, 2.4, 4.0)
TOLERANCE = 0.5  # points


class Cell(NamedTuple):
    """One load of one trace under one mix on one GPU."""

    trace: str
    mix: str
    gpu: str
    load: float


def attainment(run: TwinRun) -> float:
    """Share of the requests sent that kept all promises, in percent."""
    return 100.0 * sum(record.good for record in run.records) / len(run.records)


def main() -> None:
    """Run the grid; the file grows as cells are done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--traces", default=",".join(WINDOWS))
    parser.add_argument("--mixes", default=",".join(MIXES))
    parser.add_argument("--gpus", default=",".join(GPUS))
    parser.add_argument("--loads", default=",".join(map(str, LOADS)))
    parser.add_argument("--rivals", default=",".join(RIVALS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    policies = (OURS, *args.rivals.split(","))
    seeds = [int(seed) for seed in args.seeds.split(",")]
    axes = (args.traces.split(","), args.mixes.split(","), args.gpus.split(","),
            [float(load) for load in args.loads.split(",")])  # fmt: skip
    cells = [Cell(*values) for values in itertools.product(*axes)]
    keys = list(itertools.product(cells, policies, seeds))
    jobs = [
        Job(
            engine(cell.gpu),
            LoadKey(cell.trace, WINDOWS[cell.trace], cell.mix, cell.load, s),
            p,
        )
        for cell, p, s in keys
    ]
    scores: dict[Cell, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    margins: list[float] = []
    with args.out.open("w", buffering=1) as file:

        def done(number: int, run: TwinRun) -> None:
            cell, policy, _ = keys[number]
            scores[cell][policy].append(attainment(run))
            if sum(map(len, scores[cell].values())) == len(policies) * len(seeds):
                mean = {name: float(np.mean(values)) for name, values in scores[cell].items()}
                best = max((value, name) for name, value in mean.items() if name != OURS)
                margins.append(mean[OURS] - best[0])
                flag = "" if margins[-1] >= -TOLERANCE else "  WORSE"
                print(
                    f"{cell.trace:18s}{cell.mix:12s}{cell.gpu:20s}x{cell.load:<5g}"
                    f"{mean[OURS]:6.1f}{best[0]:7.1f} {best[1]:14s}{margins[-1]:+6.1f}{flag}",
                    file=file,
                )

        run_jobs(jobs, args.workers, done)
        worse = sum(margin < -TOLERANCE for margin in margins)
        print(
            f"{len(margins)} cells, {worse} worse than the best rival by more than {TOLERANCE} "
            f"points, least {min(margins):+.1f}, median {float(np.median(margins)):+.1f}, "
            f"most {max(margins):+.1f}",
            file=file,
        )


if __name__ == "__main__":
    main()
