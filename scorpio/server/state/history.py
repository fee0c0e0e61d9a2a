"""How did promises fare in the last minutes and hours? Counts of the status, kept for six hours.

A sample every five seconds for ten minutes and one a minute for six hours: some hundred kilobytes,
whatever the load is. What a burn rate needs is known from the start of this process on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scorpio.core.plan import FinalState, RejectReason
from scorpio.server.state.loose import mapping, number

logger = logging.getLogger("vllm.scorpio")
PERIOD_S = 5.0
FINE, COARSE = 120, 360  # samples: ten minutes, and six hours
COARSE_S = 60.0
BIN = 3  # samples in one place of a class's curve
LATELY_S = 60.0  # what "now" means for a rate
WINDOWS_S = {"5m": 300.0, "1h": 3600.0, "6h": 21600.0}
_ENDS = tuple(state.value for state in FinalState)
_REASONS = tuple(reason.value for reason in RejectReason)
_KEYS = ("good", *_ENDS, *_REASONS)
_NOTHING = (0,) * len(_KEYS)
Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals of each class in the order of _KEYS, and what was so at that time."""

    at_s: float
    totals: Mapping[str, tuple[int, ...]]
    waiting: float
    running: float
    kv_held_tokens: float


class History:
    """Of all engines of one server. look: their states, at any time."""

    def __init__(
        self,
        look: Callable[[], Iterable[Mapping[str, Any]]],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self.now_s = look, now_s
        self._fine: deque[Sample] = deque(maxlen=FINE + 1)
        self._coarse: deque[Sample] = deque(maxlen=COARSE + 1)
        self._first: Sample | None = None
        self.errors = 0

    async def run(self) -> None:
        """A sample every PERIOD_S, until cancelled."""
        while True:
            try:
                self.take()
            except Exception:  # what is shown may be wrong, requests go on
                self.failed("no sample of what was kept")
            await asyncio.sleep(PERIOD_S)

    def failed(self, what: str) -> None:
        """Count the exception that is being handled; the first one is logged."""
        self.errors += 1
        if self.errors == 1:
            logger.exception("Scorpio: %s (logged once)", what)

    def take(self) -> None:
        """One sample."""
        sample = _sample(self.now_s(), list(self._look()))
        if self._fine and sample.at_s <= self._fine[-1].at_s:
            return
        if self._fine and _fell(self._fine[-1], sample):  # an engine has started again
            self._fine.clear()
            self._coarse.clear()
            self._first = None
        self._first = self._first or sample
        self._fine.append(sample)
        if not self._coarse or sample.at_s - self._coarse[-1].at_s >= COARSE_S - PERIOD_S / 2:
            self._coarse.append(sample)

    @property
    def since_s(self) -> float:
        """How many seconds it reaches back."""
        return 0.0 if self._first is None else self._fine[-1].at_s - self._first.at_s

    def windows(self, label: str) -> dict[str, Counts]:
        """What ended in each window, and `all` since the engine started."""
        last = self._fine[-1].totals.get(label, _NOTHING) if self._fine else _NOTHING
        grown = {
            name: _grown(self._before(length_s).get(label, _NOTHING), last)
            for name, length_s in WINDOWS_S.items()
        }
        return {name: _named(counts) for name, counts in (*grown.items(), ("all", last))}

    def good_per_s(self, label: str) -> float:
        """Goodput of a class in the last minute."""
        if not self._fine or self._first is None:
            return 0.0
        last = self._fine[-1]
        span_s = min(LATELY_S, last.at_s - self._first.at_s)
        before = self._before(LATELY_S).get(label, _NOTHING)
        good = _grown(before, last.totals.get(label, _NOTHING))[0]
        return round(good / span_s, 3) if span_s else 0.0

    def curves(self) -> dict[str, list[float]]:
        """The last ten minutes, newest first: rates per second, and what was so."""
        fine = list(self._fine)
        pairs = list(pairwise(fine))[::-1]
        return {
            "good": [_rate(a, b, "good") for a, b in pairs],
            "refused": [_rate(a, b, FinalState.REJECTED.value) for a, b in pairs],
            "waiting": [b.waiting for _, b in pairs],
            "running": [b.running for _, b in pairs],
            "kv_held_tokens": [b.kv_held_tokens for _, b in pairs],
        }

    def curve_of(self, label: str) -> dict[str, list[int]]:
        """Of a class: good ones and all that count, in each BIN samples, newest first."""
        ends = list(self._fine)[::-BIN]
        good, counted = [], []
        for new, old in pairwise(ends):
            grown = _named(_grown(old.totals.get(label, _NOTHING), new.totals.get(label, _NOTHING)))
            good.append(grown["good"])
            counted.append(counted_of(grown))
        return {"good": good, "counted": counted}

    def _before(self, length_s: float) -> Mapping[str, tuple[int, ...]]:
        """Totals at the beginning of a window; of a younger history at its own."""
        if self._first is None:
            return {}
        begin_s = self._fine[-1].at_s - length_s + PERIOD_S / 2
        fine_enough = length_s <= FINE * PERIOD_S
        known = self._fine if fine_enough else self._coarse
        old = [sample for sample in known if sample.at_s <= begin_s]
        return (old[-1] if old else self._first).totals


def counted_of(counts: Mapping[str, int]) -> int:
    """Those that a promise is kept or broken for: of clients that left there is nothing to say."""
    return counts["finished"] + counts["rejected"] + counts["failed"]


def _sample(at_s: float, states: list[Mapping[str, Any]]) -> Sample:
    totals: dict[str, tuple[int, ...]] = {}
    for state in states:
        for label, found in mapping(state.get("by_class")).items():
            told = mapping(found)
            ends, reasons = mapping(told.get("outcomes")), mapping(told.get("rejections"))
            row = (
                number(told.get("good")),
                *(number(ends.get(name)) for name in _ENDS),
                *(number(reasons.get(name)) for name in _REASONS),
            )
            before = totals.get(label, _NOTHING)
            totals[label] = tuple(int(a + b) for a, b in zip(before, row, strict=True))
    return Sample(
        at_s,
        totals,
        sum(number(state.get("waiting")) for state in states),
        sum(number(state.get("running")) for state in states),
        sum(kv_held_tokens(state) for state in states),
    )


def kv_held_tokens(state: Mapping[str, Any]) -> float:
    """Tokens in KV that requests hold."""
    room = number(mapping(state.get("replica")).get("kv_tokens"))
    free = mapping(state.get("load")).get("kv_free_tokens")
    return 0.0 if free is None else max(room - number(free), 0.0)


def _fell(old: Sample, new: Sample) -> bool:
    return any(
        after < before
        for label, totals in old.totals.items()
        for before, after in zip(totals, new.totals.get(label, _NOTHING), strict=True)
    )


def _grown(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(b - a, 0) for a, b in zip(before, after, strict=True))


def _named(counts: tuple[int, ...]) -> Counts:
    return dict(zip(_KEYS, counts, strict=True))


def _rate(old: Sample, new: Sample, key: str) -> float:
    place, span_s = _KEYS.index(key), new.at_s - old.at_s
    grown = sum(
        totals[place] - old.totals.get(label, _NOTHING)[place]
        for label, totals in new.totals.items()
    )
    return round(max(grown, 0) / span_s, 3) if span_s > 0.0 else 0.0
