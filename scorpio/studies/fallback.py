"""What does a cheaper deployment bring that requests may fall back to? Eight replicas in 16 bit, in
8 bit, and mixed: what is kept, and how much of it was served in 8 bit.

In a mixed fleet some replicas are a fallback in 8 bit (`twin/gpu/eight_bit.py`): they serve what
the others cannot keep, as far as a class may fall back. The rule is the live fleet's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from scorpio.core.routing.registry import make_ranking
from scorpio.studies.study import (
    GPU,
    OURS,
    engine,
    flags,
)
from scorpio.twin.fleet.config import FleetConfig
from scorpio.twin.fleet.run import run_fleet
from scorpio.twin.gpu.eight_bit import eight_bit
from workloads.load import LoadKey

REPLICAS, TRIES, ROUTER = 8, 2, "promises"
H100 = "h100-llama-3.1-8b"
NARROW = {GPU: "a100-llama-3.1-8b-w8a8", H100: "h100-llama-3.1-8b-fp8"}
CHIP = {GPU: "A100, W8A8", H100: "H100, FP8"}
CLASSES = ("chat", "agent", "doc", "batch")
ANY = dict.fromkeys(CLASSES, 1.0)
CEILINGS = {"chat": 0.1, "doc": 0.5, "batch": 1.0}  # `agent` stays in 16 bit
WIDE, ALL_NARROW = "all 16 bit", "all 8 bit"
# name -> how many replicas are the fallback, and the ceilings of classes
MIXED: Mapping[str, tuple[int, Mapping[str, float]]] = {
    "2 of 8 in 8 bit": (2, ANY),
    "2 of 8, ceilings": (2, CEILINGS),
    "4 of 8 in 8 bit": (4, ANY),
    "4 of 8, ceilings": (4, CEILINGS),
}
SYSTEMS = (WIDE, *MIXED, ALL_NARROW)
ROWS, SEEDS = "9000:10600", (0, 1, 2)
LOADS = {GPU: (0.5, 1.2, 1.6, 2.4), H100: (3.2,)}


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
        count, shares = MIXED[self.system]
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
            "refused": sum(record.reject_reason is not None for record in made.records),
            "wall_s": round(made.wall_s, 1),
        }
