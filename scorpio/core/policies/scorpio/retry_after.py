"""When shall a refused request come back, if sixty are refused at once and all obey?

What one alone would be told holds for one alone. So each refusal is booked as a promise: those
refused after it, in this step or a later one, are told a time behind it, until it has come back or
its time is over. How far promises count is learned from how many come back. One that does, in
its time, is shed after those that come for the first time: else newcomers would take its place.

Under a lasting overload not all can be served, whenever they come. So a time is promised only as
far as promises hold: each that is broken makes times longer (`later`), and one that would be
longer than HTTP tells is not promised at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from scorpio.core.arrays import BoolArray, IntArray
from scorpio.core.policies.scorpio.learn.stretch import Stretch
from scorpio.core.request import RequestView
from scorpio.core.waiting import WaitingTable

_MOST = 2048  # promises; the oldest is forgotten first
# Of one kind, the oldest first: a flood of requests that are alike and never obey is not compared
# with all that it was told.
_MOST_LOOKED_AT = 64
GRACE_S, GRACE = 2.0, 0.25  # seconds and part of the wait: clients and networks are not exact
_WEIGHT = 0.05  # of one promise, in how many come back
_LEAST = 0.05  # of them always count
_BACK = 0.1  # of its cost counts for one that came back, where all obey
_LOOK_S = 0.25  # between two looks at all promises

_Kind = tuple[str, int, int, float, int]


class Told(NamedTuple):
    """One refused: its first token could come `offered_s` after it asks again at once; with its own
    SLO after `retry_s` (None: that is not promised). work_s: of its prompt."""

    view: RequestView
    offered_s: float
    retry_s: float | None
    work_s: float


@dataclass(frozen=True, slots=True)
class _Promise:
    """Kept for a request of this kind, until so late, that asks for its first token no earlier,
    with the same SLO (NaN: that was not promised) or one of `offered_s` or more."""

    kind: _Kind
    slo_s: float
    offered_s: float
    first_token_s: float
    until_s: float
    work_s: float


class Crowd:
    """obeys: part of those told to come back that do. later, offered: how long a time to come
    back, and a TTFT offered, have to be, so that those that take them are served."""

    def __init__(self) -> None:
        self._promises: dict[int, _Promise] = {}  # in the order in which they were given
        self._of_kind: dict[_Kind, list[int]] = {}
        self._number = 0
        self._last_seq = -1  # seen so far: only what comes after a promise comes back
        self._look_s = -math.inf  # when to look for promises whose time is over
        self._back: set[int] = set()  # seqs of those that are here again
        # Those of them that wait for what was promised: their seq, and what it teaches.
        self._open: dict[str, tuple[int, Stretch]] = {}
        self._latest: dict[int, int] = {}  # promises of the last plan, by the seq of the refused
        self.obeys = 1.0
        self.later, self.offered = Stretch(), Stretch()

    def follow(
        self, now_s: float, waiting: WaitingTable, running: Iterable[RequestView] = ()
    ) -> None:
        """Which requests have come back, and which promises are over? One that is still here was
        not refused after all (the engine knows more than the plan), so it was promised nothing."""
        if not self._promises and not self._back:
            return
        seqs = waiting.seqs()
        if self._latest:
            here = {*seqs.tolist(), *(view.seq for view in running)}
            for seq in here & self._latest.keys():
                self._forget(self._latest[seq])
            self._latest.clear()
        if self._back:
            waits = set(seqs.tolist())
            self._back &= waits | {view.seq for view in running}
            for request_id in [one for one, (seq, _) in self._open.items() if seq not in waits]:
                self._open.pop(request_id)[1].learn(kept=True)
        for row in (seqs > self._last_seq).nonzero()[0].tolist():
            view = waiting[row]
            self._last_seq = max(self._last_seq, view.seq)
            taught = self._taken(view)
            if taught is not None:
                self._back.add(view.seq)
                self._open[view.request_id] = view.seq, taught
        if now_s < self._look_s:
            return
        self._look_s = now_s + _LOOK_S
        for number, promise in list(self._promises.items()):
            if promise.until_s < now_s:
                self._end(number, came=False)

    def refused(self, request_ids: Iterable[str]) -> None:
        """Those of them that came back when they were told to, are refused again."""
        for request_id in request_ids:
            if request_id in self._open:
                self._open.pop(request_id)[1].learn(kept=False)

    @property
    def some_back(self) -> bool:
        """Is any here that came back in time?"""
        return bool(self._back)

    def is_back(self, seqs: IntArray) -> BoolArray:
        """Which of these came back in time?"""
        return np.isin(seqs, list(self._back))

    @property
    def weight(self) -> float:
        """Part of its cost that counts for one that came back: where hardly any obeys, it was
        hardly meant."""
        return 1.0 - (1.0 - _BACK) * self.obeys**2

    @property
    def booked_s(self) -> float:
        """Prefill work of those that may still come back, as far as they do."""
        return self.obeys * sum(promise.work_s for promise in self._promises.values())

    @property
    def booked(self) -> float:
        """How many may still come back, as far as they do."""
        return self.obeys * len(self._promises)

    def book(self, now_s: float, waiting: WaitingTable, told: Iterable[Told]) -> None:
        """Each was told so."""
        self._last_seq = max(self._last_seq, int(waiting.seqs().max(initial=-1)))
        for view, offered_s, retry_s, work_s in told:
            kind, slo_s = _kind(view), view.deadline_s - view.arrival_s
            if retry_s is None:
                retry_s, slo_s = 0.0, math.nan
            else:
                offered_s = slo_s + retry_s
            grace_s = GRACE_S + GRACE * retry_s
            first_token_s, until_s = now_s + offered_s - grace_s, now_s + retry_s + grace_s
            self._number += 1
            self._promises[self._number] = _Promise(
                kind, slo_s, offered_s, first_token_s, until_s, work_s
            )
            self._of_kind.setdefault(kind, []).append(self._number)
            self._latest[view.seq] = self._number
        while len(self._promises) > _MOST:
            self._end(next(iter(self._promises)), came=False)

    def _taken(self, view: RequestView) -> Stretch | None:
        """Whether it came back with a promise, which is over then; and what that one teaches."""
        deadline_s = view.deadline_s
        slo_s = deadline_s - view.arrival_s
        for number in islice(self._of_kind.get(_kind(view), ()), _MOST_LOOKED_AT):
            told = self._promises[number]
            same = abs(slo_s - told.slo_s) < 1e-6
            fits = same or slo_s >= told.offered_s - GRACE_S
            if fits and told.first_token_s <= deadline_s:
                self._end(number, came=True)
                return self.later if same else self.offered
        return None

    def _end(self, number: int, came: bool) -> None:
        """Of those that were told when to come it is learned how many do."""
        if came or not math.isnan(self._promises[number].slo_s):
            self.obeys = max(self.obeys + _WEIGHT * (came - self.obeys), _LEAST)
        self._forget(number)

    def _forget(self, number: int) -> None:
        promise = self._promises.pop(number, None)
        if promise is None:
            return
        same = self._of_kind[promise.kind]
        same.remove(number)
        if not same:
            del self._of_kind[promise.kind]


def _kind(view: RequestView) -> _Kind:
    """What a request and its next try have in common; the TTFT SLO may be what it was offered."""
    return view.tenant, view.prompt_tokens, view.max_tokens, view.slo.tpot_s, view.content
