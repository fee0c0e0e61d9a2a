"""Which promise does each request get? Named SLO mixes, assigned by seed, never by length.

Mixes live in catalog/mixes.toml. Shares are met exactly (largest remainder) and only the order is
drawn, so two seeds differ in who gets what, not in how many.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from workloads.errors import UnknownName

MIXES_FILE = Path(__file__).parent / "catalog" / "mixes.toml"


@dataclass(frozen=True, slots=True)
class MixClass:
    """One SLO class of a mix; `share` is its part of all requests, in 0..1."""

    name: str
    ttft_ms: float
    tpot_ms: float
    share: float

    def __post_init__(self) -> None:
        for field in ("ttft_ms", "tpot_ms", "share"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{field} of class {self.name} must be > 0, got {value!r}")


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
        if "base" in table:  # a scaled copy; its classes are renamed, for they mean other times
            scaled = (
                (c.ttft_ms * table["ttft_factor"], c.tpot_ms * table["tpot_factor"], c.share, "")
                for c in mixes[table["base"]].classes
            )
        else:
            entries = table["classes"]
            total = sum(entry.get("share", 1.0) for entry in entries)
            scaled = (
                (e["ttft_ms"], e["tpot_ms"], e.get("share", 1.0) / total, e.get("name", ""))
                for e in entries
            )
        mixes[name] = Mix(
            name,
            tuple(
                MixClass(own or class_name(ttft_ms, tpot_ms), ttft_ms, tpot_ms, share)
                for ttft_ms, tpot_ms, share, own in scaled
            ),
        )
    return mixes
