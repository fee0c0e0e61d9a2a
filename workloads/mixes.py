"""Which promise does each request get? Named SLO mixes, assigned by seed, never by length.

Mixes live in catalog/mixes.toml. Shares are met exactly (largest remainder) and only the order is
drawn, so two seeds differ in which request gets what, not in how many.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scorpio.core.slo import Slo
from workloads.errors import UnknownName

MIXES_FILE = Path(__file__).parent / "catalog" / "mixes.toml"


@dataclass(frozen=True, slots=True)
class MixClass:
    """One SLO class of a mix; `share` is its part of all requests, in 0..1; `inf`: no such SLO.
    `value`: of a kept promise, beside 1 for an ordinary one."""

    name: str
    ttft_ms: float
    tpot_ms: float
    share: float
    e2e_ms: float = math.inf
    value: float = 1.0

    def __post_init__(self) -> None:
        for field in ("ttft_ms", "tpot_ms", "share", "e2e_ms", "value"):
            value = getattr(self, field)
            if not value > 0.0 or (math.isinf(value) and field in ("share", "value")):
                raise ValueError(f"{field} of class {self.name} must be > 0, got {value!r}")
        if math.isinf(min(self.ttft_ms, self.tpot_ms, self.e2e_ms)):
            raise ValueError(f"class {self.name} promises nothing")

    def slo(self) -> Slo:
        """What it promises."""
        ttft_s, tpot_s, e2e_s = (ms / 1000.0 for ms in (self.ttft_ms, self.tpot_ms, self.e2e_ms))
        return Slo(ttft_s, tpot_s, e2e_s, value=self.value)


@dataclass(frozen=True, slots=True)
class Mix:
    """A named set of classes whose shares add up to one."""

    name: str
    classes: tuple[MixClass, ...]

    def __post_init__(self) -> None:
        if not math.isclose(sum(c.share for c in self.classes), 1.0):
            raise ValueError(f"shares of mix {self.name} must add up to 1")


def mix_names() -> list[str]:
    """Names of the mixes, sorted."""
    return sorted(_load())


def get_mix(name: str) -> Mix:
    """The mix of that name. Raises UnknownName listing the valid ones."""
    mixes = _load()
    if name not in mixes:
        raise UnknownName("mix", name, mixes)
    return mixes[name]


def assign(mix: Mix | str, n: int, seed: int) -> list[MixClass]:
    """The class of each of `n` requests: exact shares in a seeded random order."""
    classes = (get_mix(mix) if isinstance(mix, str) else mix).classes
    exact = np.array([c.share for c in classes]) * n
    counts = np.floor(exact + 1e-9).astype(np.int64)
    # Largest remainders get what is left; ties go to the earlier class.
    by_remainder = np.argsort(np.round(counts - exact, 9), kind="stable")
    counts[by_remainder[: n - int(counts.sum())]] += 1
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(classes)), counts))
    return [classes[i] for i in order]


def class_name(ttft_ms: float, tpot_ms: float) -> str:
    """Stable name of a class that has no name of its own, e.g. `t0.5-p30` (s, ms)."""
    return f"t{ttft_ms / 1000.0:g}-p{tpot_ms:g}"


@cache
def _load() -> Mapping[str, Mix]:
    with MIXES_FILE.open("rb") as file:
        tables = tomllib.load(file)
    mixes: dict[str, Mix] = {}
    for name, table in tables.items():
        if "base" in table:
            classes = [_scaled(c, table) for c in mixes[table["base"]].classes]
        else:
            total = sum(entry.get("share", 1.0) for entry in table["classes"])
            classes = [_stated(entry, total) for entry in table["classes"]]
        mixes[name] = Mix(name, tuple(classes))
    return mixes


def _stated(entry: Mapping[str, Any], total_share: float) -> MixClass:
    ttft_ms, tpot_ms = entry.get("ttft_ms", math.inf), entry.get("tpot_ms", math.inf)
    return MixClass(
        entry.get("name") or class_name(ttft_ms, tpot_ms),
        ttft_ms,
        tpot_ms,
        entry.get("share", 1.0) / total_share,
        entry.get("e2e_ms", math.inf),
        entry.get("value", 1.0),
    )


def _scaled(base: MixClass, table: Mapping[str, Any]) -> MixClass:
    """A copy, renamed, for it means other times."""
    ttft_ms, tpot_ms = base.ttft_ms * table["ttft_factor"], base.tpot_ms * table["tpot_factor"]
    return replace(base, name=class_name(ttft_ms, tpot_ms), ttft_ms=ttft_ms, tpot_ms=tpot_ms)
