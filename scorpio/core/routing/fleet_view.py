"""What does the router believe of its fleet now? What replicas told, and what it sent them since.

Statistics are half a second old. Without the router's own sends, all requests of that half second
would go to the replica that looked best at its beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, Number
from scorpio.core.routing.load import DUE_S, Replica, ReplicaLoad, RoutedRequest, due_bucket
from scorpio.core.routing.prefixes import PrefixIndex

# Sent and not told of yet, of one replica. One that hangs tells nothing any more: then the oldest
# of them are taken for seen.
MOST_UNSEEN = 16_384


def work_s(
    per_token_s: tuple[float, ...], new_tokens: Number, prompt_tokens: Number, length: Number
) -> Number:
    """Engine time that a request takes beside the fixed part of steps. per_token_s: of a prefill
    token, of a decode, of a token of context; length: tokens of the answer."""
    token_s, decode_s, context_s = per_token_s
    context = length * (prompt_tokens + 0.5 * length)
    return token_s * new_tokens + decode_s * length + context_s * context


class FleetView:
    """Columns over replicas, [N]. Times are seconds, sizes tokens.

    running, waiting, context_tokens, kv_free_tokens: as told, and what was sent since waits.
    prefill_tokens: [N, len(DUE_S)]. tightest_s: the tightest TPOT SLO there, inf for none.
    base_s, token_s, decode_s, context_token_s: a step's fixed time, of a prefill token, of a
    decode, of a token of context. full_s: a step as long as the engine allows. alive: may be sent
    to. sent: how many it was sent in all.
    """

    def __init__(self, replicas: Sequence[Replica] = (), delay_s: float = 0.0) -> None:
        self.replicas: list[Replica] = []
        self.alive: BoolArray = np.empty(0, dtype=np.bool_)
        self.sent, self.running, self.waiting = np.empty(0), np.empty(0), np.empty(0)
        self.context_tokens, self.kv_free_tokens = np.empty(0), np.empty(0)
        self.max_num_seqs, self.tightest_s = np.empty(0), np.empty(0)
        self.prefill_tokens = np.empty((0, len(DUE_S)))
        self.base_s, self.token_s, self.decode_s = np.empty(0), np.empty(0), np.empty(0)
        self.context_token_s, self.full_s = np.empty(0), np.empty(0)
        self.prefixes = PrefixIndex()
        self._since: list[deque[tuple[float, RoutedRequest]]] = []
        self._free: list[int] = []
        self._delay_s = delay_s
        for replica in replicas:
            self.add(replica)

    def __len__(self) -> int:
        return len(self.replicas)

    def add(self, replica: Replica) -> int:
        """A replica that may be sent to from now on. Returns its row, for as long as it lives."""
        step, budget = replica.step, replica.token_budget
        values = {
            "alive": True,
            "sent": self._fewest_sent(),
            "running": 0.0,
            "waiting": 0.0,
            "context_tokens": 0.0,
            "kv_free_tokens": float(replica.kv_tokens),
            "max_num_seqs": float(replica.max_num_seqs),
            "prefill_tokens": np.zeros(len(DUE_S)),
            "tightest_s": np.inf,
            "base_s": step.base_s,
            "token_s": step.high_token_s,
            "decode_s": step.low_token_s,
            "context_token_s": step.context_token_s,
            "full_s": step.step_s(0, 0.0, budget),
        }
        row = self._free.pop() if self._free else len(self)
        for name, value in values.items():
            column = getattr(self, name)
            if row == len(column):
                column = np.concatenate([column, np.zeros((1, *column.shape[1:]), column.dtype)])
                setattr(self, name, column)
            column[row] = value
        self.replicas[row:] = [replica, *self.replicas[row + 1 :]]
        self._since[row:] = [deque(maxlen=MOST_UNSEEN), *self._since[row + 1 :]]
        self.prefixes.replicas = len(self)
        columns = (self.token_s, self.decode_s, self.context_token_s)
        self._mean_s = tuple(float(column.mean()) for column in columns)
        return row

    def allow(self, row: int, alive: bool) -> None:
        """May it be sent to? One that is back is as if it had had its turns: else it would get all
        of the next ones."""
        if alive and not self.alive[row]:
            self.sent[row] = max(self.sent[row], self._fewest_sent())
        self.alive[row] = alive

    def remove(self, row: int) -> None:
        """It is gone, and its cache with it. Its row may be given to another."""
        self.alive[row] = False
        self._since[row].clear()
        self.prefixes.forget(row)
        self._free.append(row)

    def report(self, replica: int, load: ReplicaLoad) -> None:
        """What it tells replaces what was believed of it; what it cannot have seen is added."""
        since, i = self._since[replica], replica
        while since and since[0][0] + self._delay_s <= load.at_s:
            since.popleft()
        self.running[i], self.waiting[i] = load.running, load.waiting
        self.context_tokens[i] = load.context_tokens
        self.kv_free_tokens[i] = load.kv_free_tokens
        self.prefill_tokens[i] = load.prefill_tokens
        targets = (*load.batch[:1], *load.waiting_batch[:1])
        self.tightest_s[i] = min((target_s for target_s, _ in targets), default=np.inf)
        for now_s, request in since:
            self._add(i, request, now_s)

    def clock_was_set(self, replica: int) -> None:
        """What was sent before cannot be told any more from what it has seen: it has seen all."""
        self._since[replica].clear()

    def send(self, replica: int, request: RoutedRequest, now_s: float) -> None:
        """It goes there."""
        self.sent[replica] += 1
        self._since[replica].append((now_s, request))
        self._add(replica, request, now_s)
        self.prefixes.put(replica, request)

    def new_tokens(self, request: RoutedRequest) -> FloatArray:
        """Prompt tokens that each would have to compute, [N]."""
        return request.prompt_tokens - self.prefixes.hits(request)

    @property
    def requests(self) -> FloatArray:
        """Running and waiting, [N]."""
        return self.running + self.waiting

    @property
    def queued_tokens(self) -> FloatArray:
        """Prefill tokens still to be computed, [N]."""
        queued: FloatArray = self.prefill_tokens.sum(axis=1)
        return queued

    def decode_step_s(self, more: float = 1.0, context: float = 0.0) -> FloatArray:
        """A step of all requests there as decodes and `more` others, [N]."""
        step_s: FloatArray = (
            self.base_s
            + self.decode_s * (self.running + more)
            + self.context_token_s * (self.context_tokens + context)
        )
        return step_s

    def work_s(self, request: RoutedRequest, new_tokens: float) -> float:
        """Engine time that a request takes on a replica of middling speed, beside the fixed part
        of steps."""
        length = request.expected_output_tokens
        return work_s(self._mean_s, new_tokens, request.prompt_tokens, length)

    def _fewest_sent(self) -> float:
        return float(self.sent[self.alive].min()) if self.alive.any() else 0.0

    def _add(self, i: int, request: RoutedRequest, now_s: float) -> None:
        self.waiting[i] += 1
        self.prefill_tokens[i, due_bucket(request.deadline_s - now_s)] += request.prompt_tokens
        self.kv_free_tokens[i] -= request.prompt_tokens
        self.tightest_s[i] = min(self.tightest_s[i], request.slo.tpot_s)
