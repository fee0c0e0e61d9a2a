"""What does the router bring, with the same engines behind it? Real schedulers in virtual time.

Each router deals the same requests to eight replicas that run `scorpio`; one rival pair (`lmetric`
before `qoserve`) stands for a fleet without us. `split N` is a fixed split found with hindsight:
the 30 ms classes on N replicas, the others on the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.registry import make_ranking
from scorpio.core.routing.rivals import Split
from scorpio.core.routing.router import Ranking
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import (
    OURS,
    Cells,
    Found,
    Page,
    Rows,
    Study,
    engine,
    flags,
    interval,
    percents,
    shown,
    table,
)
from scorpio.twin.fleet.config import FleetConfig
from scorpio.twin.fleet.run import run_fleet
from workloads.load import LoadKey
from workloads.named import load_workload

REPLICAS = 8
ROUTER = "promises"
RIVALS = ("round-robin", "power-of-two", "lmetric", "headroom", "fullest-feasible")
SPLITS = ("split 2", "split 3")
TIGHT_S = 0.030
WINDOWS = {"azure-conv": "9000:10600", "servegen-r1": "1000:1800"}  # none the split was fitted on
MIXES, LOADS, SEEDS = ("six", "product"), (1.6, 2.4), (0,)
SIZES = (1, 2, 4, 16, 32)  # beside REPLICAS; with so many requests for each replica:
EACH = 200
LOST_S = 10.0


@dataclass(frozen=True, slots=True)
class FleetScore:
    """One run of a fleet. load: of all replicas together. lost: one of them dies after LOST_S."""

    router: str
    policy: str
    load: LoadKey
    replicas: int = REPLICAS
    lost: bool = False

    @property
    def label(self) -> str:
        """What runs on what."""
        dies = ", one dies" if self.lost else ""
        return f"{self.router}, {self.policy}, {self.replicas} replicas{dies}: {self.load.label}"

    def run(self) -> dict[str, Any]:
        """good, tight: a 0 or 1 per request; those of the tight classes alone."""
        fleet = FleetConfig((engine(),) * self.replicas, lost_s={0: LOST_S} if self.lost else {})
        requests, seed = self.load.requests(), self.load.seed
        made = run_fleet(fleet, requests, _ranking(self.router), self.policy, seed)
        records = made.records
        return {
            "good": flags(r.good for r in records),
            "tight": flags(r.good for r in records if r.tpot_slo_s <= TIGHT_S),
            "failed": sum(r.error is not None for r in records),
            "resent": made.resent,
            "wall_s": round(made.wall_s, 1),
            "route_us": round(made.route_us),
        }


def _ranking(router: str) -> Callable[[FleetView], Ranking]:
    name, _, count = router.partition(" ")
    if name == "split":
        return lambda _: Split(int(count), TIGHT_S)
    return lambda view: make_ranking(router, view)


def _cells(quick: bool) -> Cells:
    if quick:
        load = LoadKey("azure-conv-synth", "0:120", "six", 3.2, 0)
        return [FleetScore(router, OURS, load, 2) for router in (ROUTER, "round-robin")]
    load_workload("servegen-r1", "0:1")  # raises where the published traces are not
    loads = [
        LoadKey(trace, rows, mix, scale * REPLICAS, seed)
        for trace, rows in WINDOWS.items()
        for mix in MIXES
        for scale in LOADS
        for seed in SEEDS
    ]
    routers = (ROUTER, *RIVALS, *SPLITS)
    cells = [FleetScore(router, OURS, load) for load in loads for router in routers]
    cells += [FleetScore("lmetric", "qoserve", load) for load in loads]
    start = int(WINDOWS["azure-conv"].partition(":")[0])
    for size in (*SIZES, REPLICAS):
        load = LoadKey("azure-conv", f"{start}:{start + EACH * size}", "six", 1.6 * size, 0)
        cells += [FleetScore(router, OURS, load, size) for router in (ROUTER, "round-robin")]
    cells += [FleetScore(router, OURS, loads[0], lost=True) for router in (ROUTER, "round-robin")]
    return cells


def _rows(found: Found) -> Rows:
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for score, made in found:
        assert isinstance(score, FleetScore)
        load = score.load
        what = "size" if load.rows not in (*WINDOWS.values(), "0:120") else "router"
        what = "loss" if score.lost else what
        each = load.rate_scale / score.replicas
        key = (what, load.trace, load.mix, each, score.replicas, score.policy, score.router)
        runs[key].append(made)
    names = ("what", "trace", "mix", "load", "replicas", "policy", "router")
    return [
        dict(zip(names, key, strict=True))
        | {
            "kept": interval([percents(run["good"]) for run in made]),
            "tight": interval([percents(run["tight"]) for run in made]),
            "failed": sum(run["failed"] for run in made),
            "resent": sum(run["resent"] for run in made),
            "wall_s": max(run["wall_s"] for run in made),
            "route_us": max(run["route_us"] for run in made),
        }
        for key, made in runs.items()
    ]


def _page(rows: Rows) -> Page:
    routers = [row for row in rows if row["what"] == "router"]
    cells: dict[tuple[str, str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in routers:
        cells[row["trace"], row["mix"], row["load"]].append(row)
    over = [_over(cell, rival) for cell in cells.values() for rival in (_best, _pair)]
    parts = [f"""\
{REPLICAS} replicas, A100 model, each a real vLLM scheduler in one virtual time; replicas tell their
load every 0.5 s. Load is that of each replica. Attainment in %: requests that finished within their
TTFT and TPOT SLO, of all sent, with a 95 % interval over requests; one seed. `{ROUTER}` is ours.
`split N`: the 30 ms classes on N replicas, the others on the rest, found with hindsight.

The windows are short ({EACH} requests for each replica or fewer), and a run begins with nothing
known: what a router has yet to learn in the first seconds weighs much here. Where nearly all is
kept by every router there is nothing to decide.

## Which router keeps most promises?

{table(["trace", "mix", "load", "router", "inside", "all", "30 ms classes"], [
    [row["trace"], row["mix"], f"x{row['load']:g}", f"`{row['router']}`", f"`{row['policy']}`",
     shown(row["kept"]), shown(row["tight"])] for row in routers])}
## Ours over the others

{table(["trace", "mix", "load", "over the best rival router", "over the best split",
        "over `lmetric` with `qoserve`"],
       [[trace, mix, f"x{load:g}", _over(cell, _best), _over(cell, _split), _over(cell, _pair)]
        for (trace, mix, load), cell in cells.items()])}"""] if over else [""]  # fmt: skip
    sizes = sorted((r for r in rows if r["what"] == "size"), key=lambda r: r["replicas"])
    if sizes:
        parts.append(f"""\
## From 1 to {max(row["replicas"] for row in sizes)} replicas at x1.6 each

{table(["replicas", "router", "all", "wall time, s", "a decision, us"], [
    [str(row["replicas"]), f"`{row['router']}`", shown(row["kept"]), f"{row['wall_s']:.0f}",
     str(row["route_us"])] for row in sizes])}""")  # fmt: skip
    losses = [row for row in rows if row["what"] == "loss"]
    if losses:
        parts.append(f"""\
## One of {REPLICAS} dies after {LOST_S:g} s

Its requests that had a token fail; the others are sent again 3 s later.

{table(["router", "all", "failed", "sent again"], [
    [f"`{row['router']}`", shown(row["kept"]), str(row["failed"]), str(row["resent"])]
    for row in losses])}""")  # fmt: skip
    return Page("\n".join(parts))


def _best(row: dict[str, Any]) -> bool:
    return row["router"] in RIVALS and row["policy"] == OURS


def _split(row: dict[str, Any]) -> bool:
    return row["router"] in SPLITS


def _pair(row: dict[str, Any]) -> bool:
    return bool(row["policy"] != OURS)


def _over(cell: list[dict[str, Any]], rival: Callable[[dict[str, Any]], bool]) -> str:
    """Ratio of attainments, and to which."""
    (mine,) = (row["kept"][0] for row in cell if row["router"] == ROUTER)
    others = [(row["kept"][0], row["router"]) for row in cell if rival(row)]
    if not others:
        return "–"
    best, name = max(others)
    return f"{mine / best:.3f} (`{name}`)"


STUDY = Study("fleet", QUESTIONS["fleet"], _cells, _rows, _page)
