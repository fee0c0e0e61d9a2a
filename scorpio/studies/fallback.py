"""What does a cheaper deployment bring that requests may fall back to? Eight replicas in 16 bit, in
8 bit, and mixed: what is kept, and how much of it was served in 8 bit.

In a mixed fleet some replicas are a fallback in 8 bit (`twin/gpu/eight_bit.py`): they serve what
the others cannot keep, as far as a class may fall back. The rule is the live fleet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from scorpio.core.routing.registry import make_ranking
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import (
    GPU,
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
from scorpio.twin.gpu.eight_bit import TOKENS, eight_bit
from workloads.load import LoadKey

REPLICAS, TRIES, ROUTER = 8, 2, "promises"
H100 = "h100-llama-3.1-8b"
NARROW = {GPU: "a100-llama-3.1-8b-w8a8", H100: "h100-llama-3.1-8b-fp8"}
CHIP = {GPU: "A100, W8A8", H100: "H100, FP8"}
CLASSES = ("chat", "agent", "doc", "batch")
ANY = dict.fromkeys(CLASSES, 1.0)
CEILINGS = {"chat": 0.1, "agent": 0.2, "batch": 1.0}  # `doc` stays in 16 bit
ALL_WIDE, ALL_NARROW = "all 16 bit", "all 8 bit"
# name -> how many of eight replicas are the fallback, and the ceilings of classes
MIXED: Mapping[str, tuple[int, Mapping[str, float]]] = {
    "1 of 8, ceilings": (1, CEILINGS),
    "2 of 8, ceilings": (2, CEILINGS),
    "2 of 8 in 8 bit": (2, ANY),
    "4 of 8 in 8 bit": (4, ANY),
}
WITHOUT_CEILINGS = (ALL_WIDE, "2 of 8 in 8 bit", "4 of 8 in 8 bit", ALL_NARROW)
SYSTEMS = (ALL_WIDE, *MIXED, ALL_NARROW)
MIX, SEEDS = "product", (0, 1, 2)
ROWS = {GPU: "9000:10200", H100: "9000:11400"}
# GPU, systems, loads of each replica: below, around and past the knee of 16 bit
RUNS = (
    (GPU, WITHOUT_CEILINGS, (0.5,)),
    (GPU, SYSTEMS, (1.2, 1.6, 2.4)),
    (H100, WITHOUT_CEILINGS, (6.4,)),
)


@dataclass(frozen=True, slots=True)
class FallbackScore:
    """One run of a fleet. load: of all replicas together."""

    system: str
    load: LoadKey
    gpu: str = GPU
    replicas: int = REPLICAS

    @property
    def label(self) -> str:
        """What runs on what."""
        return f"{self.system}, {self.replicas} of {self.gpu}: {self.load.label}"

    def fleet(self) -> FleetConfig:
        """The last replicas are the fallback."""
        wide = engine(self.gpu)
        narrow = replace(wide, gpu=eight_bit(NARROW[self.gpu]))
        if self.system not in MIXED:
            one = narrow if self.system == ALL_NARROW else wide
            return FleetConfig((one,) * self.replicas, tries=TRIES)
        of_eight, shares = MIXED[self.system]
        count = of_eight * self.replicas // REPLICAS
        engines = (wide,) * (self.replicas - count) + (narrow,) * count
        return FleetConfig(engines, fallback=count, fallback_shares=shares, tries=TRIES)

    def run(self) -> dict[str, Any]:
        """good: a 0 or 1 per request, in order; classes, tokens: of each; narrow: it was sent to an
        engine in 8 bit."""
        fleet, requests = self.fleet(), self.load.requests()
        rank = partial(make_ranking, ROUTER)
        made = run_fleet(fleet, requests, rank, OURS, self.load.seed)
        first = 0 if self.system == ALL_NARROW else fleet.first
        return {
            "good": flags(record.good for record in made.records),
            "classes": [record.slo_class for record in made.records],
            "tokens": [record.output_tokens for record in made.records],
            "narrow": flags(number >= first for number in made.went),
        }


def _cells(quick: bool) -> Cells:
    if quick:
        load = LoadKey("azure-conv-synth", "0:120", MIX, 6.4, 0)
        return [FallbackScore(system, load, GPU, 4) for system in WITHOUT_CEILINGS]
    return [
        FallbackScore(system, LoadKey("azure-conv", ROWS[gpu], MIX, each * REPLICAS, seed), gpu)
        for gpu, systems, loads in RUNS
        for each in loads
        for system in systems
        for seed in SEEDS
    ]


def _rows(found: Found) -> Rows:
    cells: dict[tuple[str, float], dict[str, list[dict[str, Any]]]] = {}
    for score, made in found:
        assert isinstance(score, FallbackScore)
        key = score.gpu, score.load.rate_scale / score.replicas
        cells.setdefault(key, {}).setdefault(score.system, []).append(made)
    rows = [
        {"what": "fleet", "gpu": gpu, "load": load, "system": system}
        | {"kept": interval([percents(run["good"]) for run in runs])}
        | {"over": _over(runs, systems[ALL_WIDE]), "narrow": _narrow(runs)}
        | {"classes": [_class(system, name, runs) for name in CLASSES]}
        for (gpu, load), systems in cells.items()
        for system, runs in systems.items()
    ]
    return rows + [_step(gpu) for gpu in dict.fromkeys(gpu for gpu, _ in cells)]


def _over(runs: Sequence[dict[str, Any]], wide: Sequence[dict[str, Any]]) -> list[float]:
    """Goodput over that of all 16 bit on the same requests, with its interval (linearised)."""
    mine, theirs = ([percents(run["good"]) for run in one] for one in (runs, wide))
    base = interval(theirs)[0]
    ratio = interval(mine)[0] / base
    off = [
        [ours - ratio * other for ours, other in zip(one, two, strict=True)]
        for one, two in zip(mine, theirs, strict=True)
    ]
    _, low, high = interval(off)
    return [round(value, 4) for value in (ratio, ratio + low / base, ratio + high / base)]


def _class(system: str, name: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one class: what is kept, and the share of its requests that was served in 8 bit."""
    mine = [
        (good, narrow == "1" and tokens > 0)
        for run in runs
        for good, narrow, tokens, slo_class in zip(
            run["good"], run["narrow"], run["tokens"], run["classes"], strict=True
        )
        if slo_class == name
    ]
    _, shares = MIXED.get(system, (0, {}))
    return {
        "class": name,
        "kept": round(100.0 * sum(good == "1" for good, _ in mine) / max(len(mine), 1), 1),
        "served": round(100.0 * sum(fell for _, fell in mine) / max(len(mine), 1), 1),
        "ceiling": 100.0 * shares.get(name, 0.0),
        "narrow": _narrow(runs, name),
    }


def _narrow(runs: Sequence[dict[str, Any]], name: str = "") -> float:
    """Output tokens of 8-bit engines, in % of all, or of a class."""
    mine = [
        (tokens, narrow == "1")
        for run in runs
        for tokens, narrow, slo_class in zip(
            run["tokens"], run["narrow"], run["classes"], strict=True
        )
        if name in ("", slo_class)
    ]
    of_all = sum(tokens for tokens, _ in mine)
    served = sum(tokens for tokens, narrow in mine if narrow)
    return float(round(100.0 * served / max(of_all, 1), 1))


def _step(gpu: str) -> dict[str, Any]:
    """Milliseconds of a step of so many tokens, without the engine's gap."""
    wide, narrow = engine(gpu).gpu.step, eight_bit(NARROW[gpu]).step
    each = [[1e3 * step.step_s(0, 0.0, n) for n in TOKENS] for step in (wide, narrow)]
    return {"what": "step", "gpu": gpu, "ms": [[round(ms, 1) for ms in one] for one in each]}


def _page(rows: Rows) -> Page:
    fleets = [row for row in rows if row["what"] == "fleet"]
    mixed = [row for row in fleets if row["system"] in MIXED and row["narrow"]]
    steps = [row for row in rows if row["what"] == "step"]
    return Page(f"""\
{REPLICAS} replicas, each a real vLLM scheduler in one virtual time, behind the router `{ROUTER}`;
azure-conv rows {ROWS[GPU]} (H100: {ROWS[H100]}), mix `{MIX}`, {len(SEEDS)} seeds. Load is that of
each replica. In a mixed fleet some replicas are a fallback in 8 bit: a request goes there when a
replica in 16 bit has refused it, or when by forecast none of them keeps it. In every fleet a
request that is refused is tried once more, as in a live one. Kept: requests that finished within
their SLO, in % of all sent, with a 95 % interval over seeds and requests; goodput is compared on
the same requests. Tokens: the part of all output tokens that came from engines in 8 bit.

## What is kept, and how much of it in 8 bit?

{_fleets(fleets)}
All 8 bit is the rival of every mix: as many machines, all of them fast, and no answer in 16 bit.
What a mix has beside what it keeps is the last column: full precision while the load allows it, and
a ceiling for each class when it does not. It has fewer engines for what has to be served in 16 bit,
so a ceiling that binds can keep less than all 16 bit does: the fallback then stands idle.

## Which classes fall back?

Requests and tokens that were served in 8 bit, in % of the class's own. The ceiling is the largest
share of requests; – is a class that stays in 16 bit.

{_classes(mixed)}
## How long is a step in 8 bit?

The linear parts of the layers are those of published GEMM tables (aiconfigurator-core 0.12,
Apache-2.0: A100 with weights and activations in INT8, H100 in FP8); all else is as in 16 bit, and
so is the room for KV (`scorpio/twin/gpu/eight_bit.py`). Answers of the 8-bit model are taken to be
as long as the others; what they lose in quality is not measured. Others report up to 1.6 times the
throughput in FP8 (vLLM's documentation) and 1.55 times (NestedFP, arXiv 2506.02024).

A step that is all prefill, in milliseconds:

{_steps(steps)}""")


def _fleets(rows: Rows) -> str:
    heads = ["GPU", "load", "fleet", "kept, %", "goodput over all 16 bit", "tokens in 8 bit, %"]
    cells = [
        [*_named(row), shown(row["kept"]), shown(row["over"], 3), f"{row['narrow']:.1f}"]
        for row in rows
    ]
    return table(heads, cells)


def _classes(rows: Rows) -> str:
    heads = ["GPU", "load", "fleet", "class", "kept, %", "ceiling", "requests", "tokens"]
    cells = [
        [
            *(*_named(row), f"`{one['class']}`", f"{one['kept']:.1f}"),
            *(f"{one['ceiling']:g}" if one["ceiling"] else "–",),
            *(f"{one['served']:.1f}", f"{one['narrow']:.1f}"),
        ]
        for row in rows
        for one in row["classes"]
    ]
    return table(heads, cells)


def _named(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return CHIP[row["gpu"]], f"x{row['load']:g}", row["system"]


def _steps(rows: Rows) -> str:
    cells = [
        [CHIP[row["gpu"]], name, *(f"{ms:.1f}" for ms in one)]
        for row in rows
        for name, one in zip(("16 bit", "8 bit"), row["ms"], strict=True)
    ]
    return table(["GPU", "tokens in the step:", *map(str, TOKENS)], cells)


STUDY = Study("fallback", QUESTIONS["fallback"], _cells, _rows, _page)
