"""Is a tight TPOT target worth what it costs the others? For those that leave little of a step.

A tighter target means more steps, and a part of each is spent on nothing. Where that part is more
than `fixed_share` of the target, requests that ask for it are not let in beside others while
clearly more promises are kept without them, by what came in the last half minute
(core/demand.py, core/fluid.py).
"""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.demand import Demand
from scorpio.core.fluid import LEAST_BEND, room_for_work, served_share
from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.waiting import WaitingTable
from scorpio.core.work import decode_work_s, prefill_work_s

_LOOK_S = 2.0  # between two looks at what came
# So many times the promises are kept without a target that is turned away. Near 1, for both ways of
# being wrong cost alike; above it, for the fluid is not exact.
_CLEARLY = 1.03
_MOST_TRIED = 16  # targets; clients may state as many as they like
_BEND = LEAST_BEND + 1.0  # of one engine


class TightTargets:
    """State: what came, and the tightest TPOT target that is worth it."""

    def __init__(self, fixed_share: float) -> None:
        self._fixed_share = fixed_share
        self._demand = Demand()
        self._last_seq = -1
        self._look_s = -math.inf
        self._least_s = 0.0

    def follow(
        self, now_s: float, waiting: WaitingTable, model: StepModel, lengths: LengthBelief
    ) -> None:
        """Those that wait for the first time have come."""
        seqs = waiting.seqs()
        new = np.flatnonzero(seqs > self._last_seq)
        if not len(new):
            return
        self._last_seq = int(seqs[new].max())
        prompts = waiting.prompt_tokens[new]
        output = lengths.expected(waiting.predicted_output_tokens[new], waiting.max_tokens[new])
        work_s = prefill_work_s(model, waiting.prefill_tokens[new], waiting.cached_tokens[new])
        work_s = work_s + decode_work_s(model, prompts, output)
        for tpot_s, one_s in zip(waiting.tpot_slo_s[new].tolist(), work_s.tolist(), strict=True):
            self._demand.note(now_s, tpot_s, one_s)

    def least_s(self, now_s: float, fixed_s: float) -> float:
        """The tightest TPOT target that others share steps with. fixed_s: of each step."""
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_S
            self._least_s = self._best_s(now_s, fixed_s)
        return self._least_s

    def _best_s(self, now_s: float, fixed_s: float) -> float:
        usual_s = fixed_s / max(self._fixed_share, 1e-9)  # from here on all are let in
        tpot_s, work_s, span_s = self._demand.came(now_s)
        tight = np.unique(tpot_s[(tpot_s > fixed_s) & (tpot_s < usual_s)])
        if not len(tight):
            return usual_s
        cheapest = np.argsort(work_s, kind="stable")
        tpot_s, work_s = tpot_s[cheapest], work_s[cheapest]

        def kept(least_s: float) -> int:
            """Of those that came, if all from this target on are served, the cheapest first."""
            served = tpot_s >= least_s
            done_s = np.cumsum(work_s[served])
            if not len(done_s):
                return 0
            room = room_for_work(fixed_s, float(tpot_s[served].min()))
            share = served_share(float(done_s[-1]) / span_s / room, _BEND)
            return int(done_s.searchsorted(share * done_s[-1], side="right"))

        tried = tight[:: math.ceil(len(tight) / _MOST_TRIED)]
        found: dict[float, int] = {s: kept(s) for s in (*tried.tolist(), usual_s)}
        enough = max(found.values()) / _CLEARLY
        return next(s for s, promises in found.items() if promises >= enough)
