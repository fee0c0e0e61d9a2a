"""What does it cost a router to choose? Processor time of one decision, by size of the fleet.

Requests of four TPOT SLOs at eight a second for each replica, which tell a load now and then.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from scorpio.core.latency import StepModel
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import Replica, ReplicaLoad, RoutedRequest, by_due
from scorpio.core.routing.registry import make_ranking
from scorpio.core.routing.router import Router
from scorpio.core.slo import Slo
from scorpio.studies.study import Rows, table

SIZES, ROUTERS = (8, 64, 256), ("promises", "headroom", "lmetric")
EACH_RPS, TOLD_EVERY = 8.0, 50  # requests between two reports
_STEP = StepModel(0.013, 2.8e-5, 5.3e-5, 96.0, 0.0, 0.0, 8.6e-8)
_TOLD = ReplicaLoad(0.0, 20, 3, 20_000, 50_000, by_due([0.4], [3000]), ((0.05, 20),))


def measure(name: str, replicas: int, count: int) -> list[float]:
    """Microseconds of each decision, once the fleet has seen some."""
    view = FleetView([Replica(_STEP, 2048, 256, 320_000)] * replicas)
    router, rng = Router(view, make_ranking(name, view)), np.random.default_rng(0)
    prompts = rng.integers(50, 3000, count).tolist()
    spent = []
    for seq, prompt in enumerate(prompts):
        now_s = seq / (EACH_RPS * replicas)
        slo = Slo(1.0, (0.03, 0.05, 0.1, 0.2)[seq % 4])
        request = RoutedRequest(seq, now_s, prompt, slo)
        if seq % TOLD_EVERY == 0:
            router.report(int(rng.integers(replicas)), replace(_TOLD, at_s=now_s))
        started_s = time.thread_time()
        router.choose(request, now_s)
        spent.append(1e6 * (time.thread_time() - started_s))
    return spent[count // 4 :]


def rows(count: int) -> Rows:
    """One for each router and size."""
    found: Rows = []
    for name in ROUTERS:
        for replicas in SIZES:
            p50, p99 = np.percentile(measure(name, replicas, count), (50, 99)).tolist()
            row = {"router": name, "replicas": replicas, "p50": round(p50), "p99": round(p99)}
            found.append(row)
    return found


def text(found: Rows) -> str:
    """A table."""
    heads = ["router", "replicas", "median, us", "p99, us"]
    lines = [
        [f"`{r['router']}`", *(str(r[key]) for key in ("replicas", "p50", "p99"))] for r in found
    ]
    return table(heads, lines)
