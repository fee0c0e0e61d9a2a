"""Which requests are running, and how far? vLLM's `running` list as columns for `plan()`.

The only value read from every request at every step is `num_computed_tokens`; all else follows
from it or is fixed when a request joins. Nothing is counted up or down, so an abort or a
preemption cannot leak: a row is gone when it is gone from `running`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from vllm.v1.request import Request

from scorpio.core.arrays import FloatArray
from scorpio.core.plan import Forecast
from scorpio.core.request import RequestView
from scorpio.core.snapshot import RunningBatch

_computed = attrgetter("num_computed_tokens")
_said = attrgetter("num_output_tokens", "num_output_placeholders")


@dataclass(slots=True)
class Tracked:
    """What we know of a live request: its facts, when its first token came (NaN before), and what
    the policy forecast when it let it in."""

    view: RequestView
    first_token_s: float = math.nan
    forecast: Forecast | None = None


class RunningTable:
    """Stable slots in [0, max_num_seqs) and the columns of the current `running` list. drafts: the
    engine drafts tokens that may be rejected."""

    def __init__(self, max_num_seqs: int, drafts: bool = False) -> None:
        self._drafts = drafts
        self._free = list(range(max_num_seqs - 1, -1, -1))
        self._slot_of: dict[str, int] = {}
        self._first_token_s: FloatArray = np.full(max_num_seqs, math.nan)
        self._rows: list[Request] = []
        self._batch = _empty_batch()
        self._target = np.empty(0, dtype=np.int64)
        self._prompt = np.empty(0, dtype=np.int64)

    def refresh(self, running: list[Request], tracked: dict[str, Tracked]) -> RunningBatch:
        """Columns for this step; every running request must be in `tracked`."""
        if running != self._rows:
            self._rebuild(running, tracked)
        else:
            self._batch.joined[:] = False
        batch = self._batch
        n = len(running)
        computed = np.fromiter(map(_computed, running), dtype=np.int64, count=n)
        batch.context_tokens = computed
        batch.is_decode = computed >= self._target
        # A decode always has exactly one token not yet computed, in flight or sampled; a
        # (re)prefill stands at the tokens it had when it joined (target - prompt).
        produced = computed + 1 - self._prompt
        if self._drafts and n:  # of drafts in flight only one token is sure
            said, in_flight = np.array(list(map(_said, running)), dtype=np.int64).T
            produced = said + (in_flight > 0)
        batch.output_tokens = np.where(batch.is_decode, produced, self._target - self._prompt)
        batch.prefill_left = np.maximum(self._target - computed, 0)
        batch.first_token_s = self._first_token_s[batch.slot]
        return batch

    def first_token(self, request_id: str, now_s: float) -> None:
        """Record when a running request produced its first token."""
        slot = self._slot_of.get(request_id)
        if slot is not None:
            self._first_token_s[slot] = now_s

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._slot_of

    def __len__(self) -> int:
        return len(self._slot_of)

    def _rebuild(self, running: list[Request], tracked: dict[str, Tracked]) -> None:
        known = {request.request_id: row for row, request in enumerate(self._rows)}
        ids = [request.request_id for request in running]
        stayed = set(ids)
        # In order of rows: a set of texts has another order in each process.
        for request_id in known:
            if request_id not in stayed:
                self._free.append(self._slot_of.pop(request_id))
        n = len(running)
        source = np.fromiter((known.get(i, -1) for i in ids), dtype=np.int64, count=n)
        old_target, old_prompt = self._target, self._prompt
        self._target = np.empty(n, dtype=np.int64)
        self._prompt = np.empty(n, dtype=np.int64)
        stay = source >= 0
        self._target[stay] = old_target[source[stay]]
        self._prompt[stay] = old_prompt[source[stay]]
        for row in (~stay).nonzero()[0].tolist():
            request = running[row]
            slot = self._slot_of[ids[row]] = self._free.pop()
            self._first_token_s[slot] = tracked[ids[row]].first_token_s
            self._prompt[row] = request.num_prompt_tokens
            # A resumed request recomputes its outputs too, hence num_tokens; drafts in flight are
            # computed and may be taken back.
            tokens, computed_now = request.num_tokens, request.num_computed_tokens
            self._target[row] = tokens if request.is_prefill_chunk else min(computed_now, tokens)
        views = [tracked[i].view for i in ids]
        slot_of = self._slot_of
        self._batch = RunningBatch(
            views=views,
            slot=np.fromiter((slot_of[i] for i in ids), dtype=np.int64, count=n),
            joined=~stay,
            is_decode=np.empty(n, dtype=np.bool_),
            context_tokens=np.empty(n, dtype=np.int64),
            output_tokens=np.empty(n, dtype=np.int64),
            prefill_left=np.empty(n, dtype=np.int64),
            first_token_s=np.empty(n),
            tpot_slo_s=np.fromiter((v.slo.tpot_s for v in views), dtype=np.float64, count=n),
            deadline_s=np.fromiter((v.deadline_s for v in views), dtype=np.float64, count=n),
            value=np.fromiter((v.slo.value for v in views), dtype=np.float64, count=n),
        )
        self._rows = list(running)


def _empty_batch() -> RunningBatch:
    whole, real = np.empty(0, dtype=np.int64), np.empty(0)
    flag = np.empty(0, dtype=np.bool_)
    return RunningBatch([], whole, flag, flag, whole, whole, whole, real, real, real, real)
