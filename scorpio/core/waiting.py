"""Which requests wait, in which order? Sorted by a policy's key, columns as numpy arrays.

Sorting happens once, on entry: a per-step sort of 10,000 waiting requests would cost more than
the step it plans. Insertion is a binary search and one memmove per column.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss
from scorpio.core.tenants import share_group, tenant_key

_COLUMNS = ("key", "seq", "deadline_s", "tpot_slo_s", "prompt_tokens", "predicted_output_tokens",
            "expected_output_tokens", "arrival_s", "cached_tokens", "tenant", "value",
            "shared_tokens", "shared_id", "share_group", "max_tokens")  # fmt: skip
_ONE_PASS = 8  # removals at once from which on one pass is cheaper
_FLAGS = ("started", "rejectable", "degradable", "quoted")


class WaitingTable:
    """Waiting requests ordered by (key, seq); ties are broken by arrival sequence.

    Requests that already ran (preempted by vLLM) enter with `started=True`: they sort before all
    others and policies must never reject them.
    """

    def __init__(self) -> None:
        self._capacity = 64
        self._n = 0
        self.newest_seq = -1  # of all that ever were in it
        self._float = {name: np.empty(self._capacity) for name in _COLUMNS}
        self._flag = {name: np.empty(self._capacity, dtype=np.bool_) for name in _FLAGS}
        self._views: list[RequestView] = []
        self._place_of: dict[str, tuple[float, int]] = {}  # id -> (key, seq)

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[RequestView]:
        return iter(self._views)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._place_of

    def __getitem__(self, row: int) -> RequestView:
        return self._views[row]

    # Columns, shape [n], in order. Views of live storage: valid until the next add/remove.
    @property
    def key(self) -> FloatArray:
        """What the table is sorted by: the policy's `queue_key`, -inf for those that ran before."""
        return self._float["key"][: self._n]

    @property
    def deadline_s(self) -> FloatArray:
        return self._float["deadline_s"][: self._n]

    @property
    def tpot_slo_s(self) -> FloatArray:
        return self._float["tpot_slo_s"][: self._n]

    @property
    def prompt_tokens(self) -> FloatArray:
        return self._float["prompt_tokens"][: self._n]

    @property
    def cached_tokens(self) -> FloatArray:
        """Leading prompt tokens found in the prefix cache; KV that is there, not work."""
        return self._float["cached_tokens"][: self._n]

    @property
    def shared_tokens(self) -> FloatArray:
        """Leading prompt tokens in common with another that is still to be computed."""
        return self._float["shared_tokens"][: self._n]

    @property
    def shared_id(self) -> FloatArray:
        """The same for all with that beginning; 0 for none."""
        return self._float["shared_id"][: self._n]

    @property
    def prefill_tokens(self) -> FloatArray:
        """The work: prompt tokens that are not in the prefix cache (a copy)."""
        tokens: FloatArray = self.prompt_tokens - self.cached_tokens
        return tokens

    @property
    def predicted_output_tokens(self) -> FloatArray:
        return self._float["predicted_output_tokens"][: self._n]

    @property
    def max_tokens(self) -> FloatArray:
        """Of the answer, at most."""
        return self._float["max_tokens"][: self._n]

    @property
    def expected_output_tokens(self) -> FloatArray:
        """Like `predicted_output_tokens`, but never NaN: max_tokens when there is none."""
        return self._float["expected_output_tokens"][: self._n]

    @property
    def arrival_s(self) -> FloatArray:
        return self._float["arrival_s"][: self._n]

    @property
    def tenant(self) -> FloatArray:
        """`tenant_key` of each."""
        return self._float["tenant"][: self._n]

    @property
    def share_group(self) -> FloatArray:
        """`share_group` of each."""
        return self._float["share_group"][: self._n]

    @property
    def value(self) -> FloatArray:
        """What serving each in time is worth (the operator's word)."""
        return self._float["value"][: self._n]

    @property
    def started(self) -> BoolArray:
        return self._flag["started"][: self._n]

    @property
    def rejectable(self) -> BoolArray:
        """Not started, on_miss is REJECT, and an SLO was stated: else there is none to miss."""
        return self._flag["rejectable"][: self._n]

    @property
    def degradable(self) -> BoolArray:
        """Not started and on_miss is DEGRADE."""
        return self._flag["degradable"][: self._n]

    @property
    def quoted(self) -> BoolArray:
        """It asks for what it was quoted."""
        return self._flag["quoted"][: self._n]

    def add(self, view: RequestView, key: float, started: bool = False) -> None:
        """Insert in order. Raises ValueError on a duplicate id or a NaN key."""
        if view.request_id in self._place_of:
            raise ValueError(f"request {view.request_id!r} is already waiting")
        if math.isnan(key):
            raise ValueError("queue key is NaN")
        if started:
            key = -math.inf
        if self._n == self._capacity:
            self._grow()
        row = self._find(key, view.seq)
        values = (key, view.seq, view.deadline_s, view.slo.tpot_s, view.prompt_tokens,
                  view.predicted_output_tokens, view.expected_output_tokens, view.arrival_s,
                  view.cached_tokens, tenant_key(view.tenant), view.slo.value,
                  view.shared_tokens, view.shared_id,
                  share_group(view.slo_class, view.weight), view.max_tokens)  # fmt: skip
        for name, value in zip(_COLUMNS, values, strict=True):
            _insert(self._float[name], row, self._n, value)
        on_miss = view.slo.on_miss
        flags = (started, not started and view.slo.refusable,
                 not started and on_miss is OnMiss.DEGRADE, view.quoted)  # fmt: skip
        for name, flag in zip(_FLAGS, flags, strict=True):
            _insert(self._flag[name], row, self._n, flag)
        self._views.insert(row, view)
        self._place_of[view.request_id] = (key, view.seq)
        self.newest_seq = max(self.newest_seq, view.seq)
        self._n += 1

    def recache(self, view: RequestView) -> None:
        """Put in a view of a waiting request that differs in what is cached or shared alone."""
        row = self._row_of(view.request_id)
        self._views[row] = view
        self._float["cached_tokens"][row] = view.cached_tokens
        self._float["shared_tokens"][row] = view.shared_tokens
        self._float["shared_id"][row] = view.shared_id

    def remove(self, request_id: str) -> RequestView | None:
        """Take a request out; None when it is not here."""
        if request_id not in self._place_of:
            return None
        row = self._row_of(request_id)
        del self._place_of[request_id]
        for column in (*self._float.values(), *self._flag.values()):
            column[row : self._n - 1] = column[row + 1 : self._n]
        self._n -= 1
        return self._views.pop(row)

    def remove_many(self, request_ids: Collection[str]) -> None:
        """Take these out; many at a time (a flood is refused by dozens) cost one pass over the
        columns, not one each. Unknown ids are left alone."""
        if len(request_ids) < _ONE_PASS:
            for request_id in request_ids:
                self.remove(request_id)
            return
        known = [i for i in request_ids if i in self._place_of]
        rows = [self._row_of(i) for i in known]
        keep = np.ones(self._n, dtype=np.bool_)
        keep[rows] = False
        for request_id in known:
            del self._place_of[request_id]
        for row in sorted(rows, reverse=True):
            del self._views[row]
        left = self._n - len(rows)
        for column in (*self._float.values(), *self._flag.values()):
            column[:left] = column[: self._n][keep]
        self._n = left

    def seqs(self) -> IntArray:
        """Arrival sequence numbers in table order (copy), for tests and oracles."""
        return self._float["seq"][: self._n].astype(np.int64)

    def _row_of(self, request_id: str) -> int:
        row = self._find(*self._place_of[request_id])
        while self._views[row].request_id != request_id:  # only when a caller repeats a seq
            row += 1
        return row

    def _find(self, key: float, seq: int) -> int:
        keys = self._float["key"][: self._n]
        low = int(keys.searchsorted(key, side="left"))
        high = int(keys.searchsorted(key, side="right"))
        return low + int(self._float["seq"][low:high].searchsorted(seq))

    def _grow(self) -> None:
        self._capacity *= 2
        for name, column in self._float.items():
            self._float[name] = np.resize(column, self._capacity)
        for name, flags in self._flag.items():
            self._flag[name] = np.resize(flags, self._capacity)


def _insert(column: FloatArray | BoolArray, row: int, n: int, value: float) -> None:
    column[row + 1 : n + 1] = column[row:n]
    column[row] = value
