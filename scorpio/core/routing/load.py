"""What does a router know of a replica? What the replica told last, and what it is.

A replica tells its load every half second or so; a router adds what it has itself sent there since
(`fleet_view.py`). All of it fits in a line of JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf, isinf
from typing import Any

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.slo import NO_SLO, Slo
from scorpio.core.snapshot import EngineLimits

# Upper ends of the buckets in which prefill work is told, seconds until its first token is due.
DUE_S: FloatArray = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, np.inf])
UNKNOWN_LENGTH = 256.0  # tokens of an answer of which nothing is known
# Stands for the speed of a replica that was never measured: only ratios count then. Steps of 10 ms,
# a prefill token a hundredth of one, a decode half as much.
MIDDLING = StepModel(0.01, 5e-5, 1e-4, 256.0, 0.0, 0.0, 1e-8)
Tokens = tuple[int, ...]
Targets = tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Replica:
    """What does not change while it lives: how fast it is and how much it holds."""

    step: StepModel
    token_budget: int
    max_num_seqs: int
    kv_tokens: int

    @property
    def measured(self) -> bool:
        """Is its speed known? Else forecasts of it say nothing."""
        return self.step != MIDDLING

    @classmethod
    def of(cls, profile: LatencyProfile | None, limits: EngineLimits) -> Replica:
        """Of an engine. profile: None = not measured."""
        step = MIDDLING if profile is None else profile.step
        return cls(step, limits.token_budget, limits.max_num_seqs, limits.kv_tokens)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return _told(self) | {"step": _told(self.step)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Replica:
        """Inverse of `to_dict`. Raises ValueError naming what is missing or wrong."""
        try:
            sizes = {name: int(raw[name]) for name in ("token_budget", "max_num_seqs", "kv_tokens")}
            return cls(StepModel(**raw["step"]), **sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"replica: {type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """At `at_s`. prefill_tokens: still to be computed, of running and waiting requests, by DUE_S.
    batch: (TPOT SLO in seconds, how many) of the running ones; waiting_batch: of the others."""

    at_s: float
    running: int = 0
    waiting: int = 0
    context_tokens: int = 0
    kv_free_tokens: int = 0
    prefill_tokens: Tokens = (0,) * len(DUE_S)
    batch: Targets = ()
    waiting_batch: Targets = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: null is "no TPOT SLO"."""
        told = _told(self)
        for name in _TARGETS:
            told[name] = [[None if isinf(s) else s, count] for s, count in told[name]]
        return told

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], at_s: float) -> ReplicaLoad:
        """Inverse of `to_dict`, with `at_s` on the reader's clock. What it does not know it leaves
        out: a fleet is upgraded replica by replica. Raises ValueError naming the field."""
        known: dict[str, Any] = {"at_s": at_s}
        for field in fields(cls):
            if field.name == "at_s" or field.name not in raw:
                continue
            try:
                known[field.name] = _READ[field.name](raw[field.name])
            except (TypeError, ValueError):
                raise ValueError(f"load: {field.name}: {raw[field.name]!r}") from None
        return cls(**known)


def _told(one: Any) -> dict[str, Any]:
    """By field. (`asdict` copies all values, deep down: a status is made of them in many steps.)"""
    return {name: getattr(one, name) for name in one.__slots__}


def _targets(raw: Iterable[Sequence[Any]]) -> Targets:
    return tuple((inf if s is None else float(s), int(count)) for s, count in raw)


def _tokens(raw: Iterable[Any]) -> Tokens:
    tokens = tuple(int(count) for count in raw)
    if len(tokens) != len(DUE_S):
        raise ValueError(f"{len(tokens)} buckets")
    return tokens


_TARGETS = ("batch", "waiting_batch")
_READ: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("running", "waiting", "context_tokens", "kv_free_tokens"), int),
    **dict.fromkeys(_TARGETS, _targets),
    "prefill_tokens": _tokens,
}


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """What a router knows of a request. prefix_ids: of its prompt's blocks, the first one first;
    equal ids mean that all up to there is equal. slo_class: "" = none. model: that it names, "" =
    the one that the fleet is for."""

    seq: int
    arrival_s: float
    prompt_tokens: int
    slo: Slo = NO_SLO
    expected_output_tokens: float = UNKNOWN_LENGTH
    prefix_ids: tuple[int, ...] = ()
    prefix_block_tokens: int = 512
    slo_class: str = ""
    model: str = ""

    @property
    def deadline_s(self) -> float:
        """When its first token is due."""
        return self.arrival_s + min(self.slo.ttft_s, self.slo.e2e_s)


def due_bucket(left_s: float) -> int:
    """Which bucket of DUE_S."""
    return min(int(np.searchsorted(DUE_S, left_s)), len(DUE_S) - 1)


def by_due(left_s: Sequence[float] | FloatArray, tokens: Sequence[float] | FloatArray) -> Tokens:
    """Prefills, by the time left until each is due, as `ReplicaLoad.prefill_tokens`."""
    buckets = np.minimum(DUE_S.searchsorted(left_s), len(DUE_S) - 1)
    return tuple(np.bincount(buckets, tokens, len(DUE_S)).astype(int).tolist())


def counted(targets_s: Iterable[float]) -> Targets:
    """TPOT SLOs as `ReplicaLoad.batch`, the tightest first."""
    return tuple(sorted(Counter(targets_s).items()))
