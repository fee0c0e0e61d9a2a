"""What does a router know of a replica? What the replica told last, and what it is.

A replica tells its load every half second or so; a router adds what it has itself sent there since
(`fleet_view.py`). All of it fits in a line of JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.latency import StepModel
from scorpio.core.slo import NO_SLO, Slo

# Upper ends of the buckets in which prefill work is told, seconds until its first token is due.
DUE_S: FloatArray = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, np.inf])
UNKNOWN_LENGTH = 256.0  # tokens of an answer of which nothing is known


@dataclass(frozen=True, slots=True)
class Replica:
    """What does not change while it lives: how fast it is and how much it holds."""

    step: StepModel
    token_budget: int
    max_num_seqs: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """At `at_s`. prefill_tokens: still to be computed, of running and waiting requests, by DUE_S.
    batch: (TPOT SLO in seconds, how many) of the running ones; waiting_batch: of the others."""

    at_s: float
    running: int = 0
    waiting: int = 0
    context_tokens: int = 0
    kv_free_tokens: int = 0
    prefill_tokens: tuple[int, ...] = (0,) * len(DUE_S)
    batch: tuple[tuple[float, int], ...] = ()
    waiting_batch: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """What a router knows of a request. prefix_ids: of its prompt's blocks, the first one first;
    equal ids mean that all up to there is equal."""

    seq: int
    arrival_s: float
    prompt_tokens: int
    slo: Slo = NO_SLO
    expected_output_tokens: float = UNKNOWN_LENGTH
    prefix_ids: tuple[int, ...] = ()
    prefix_block_tokens: int = 512

    @property
    def deadline_s(self) -> float:
        """When its first token is due."""
        return self.arrival_s + min(self.slo.ttft_s, self.slo.e2e_s)


def due_bucket(left_s: float) -> int:
    """Which bucket of DUE_S."""
    return min(int(np.searchsorted(DUE_S, left_s)), len(DUE_S) - 1)


def by_due(prefills: Iterable[tuple[float, int]]) -> tuple[int, ...]:
    """(seconds until due, tokens) of each as `ReplicaLoad.prefill_tokens`."""
    tokens = [0] * len(DUE_S)
    for left_s, count in prefills:
        tokens[due_bucket(left_s)] += count
    return tuple(tokens)


def counted(targets_s: Iterable[float]) -> tuple[tuple[float, int], ...]:
    """TPOT SLOs as `ReplicaLoad.batch`, the tightest first."""
    found: dict[float, int] = {}
    for target_s in targets_s:
        found[target_s] = found.get(target_s, 0) + 1
    return tuple(sorted(found.items()))
