"""What does the router believe of its fleet now? What replicas told, and what it sent them since.

Statistics are half a second old. Without the router's own sends, all requests of that half second
would go to the replica that looked best at its beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.routing.load import DUE_S, Replica, ReplicaLoad, RoutedRequest, due_bucket
from scorpio.core.routing.prefixes import PrefixIndex


class FleetView:
    """Columns over replicas, [N]. Times are seconds, sizes tokens.

    running, waiting, context_tokens, kv_free_tokens: as told, and what was sent since waits.
    prefill_tokens: [N, len(DUE_S)]. tightest_s: the tightest TPOT SLO there, inf for none.
    base_s, token_s, decode_s, context_token_s: a step's fixed time, of a prefill token, of a
    decode, of a token of context. full_s: a step as long as the engine allows. alive: may be sent
    to. sent: how many it was sent in all.
    """

    def __init__(self, replicas: Sequence[Replica], delay_s: float = 0.0) -> None:
        n, steps = len(replicas), [replica.step for replica in replicas]
        self.replicas = tuple(replicas)
        self.alive: BoolArray = np.ones(n, dtype=np.bool_)
        self.sent = np.zeros(n)
        self.running, self.waiting = np.zeros(n), np.zeros(n)
        self.context_tokens = np.zeros(n)
        self.kv_free_tokens = np.array([float(r.kv_tokens) for r in replicas])
        self.max_num_seqs = np.array([float(r.max_num_seqs) for r in replicas])
        self.prefill_tokens = np.zeros((n, len(DUE_S)))
        self.tightest_s = np.full(n, np.inf)
        self.base_s = np.array([step.base_s for step in steps])
        self.token_s = np.array([step.high_token_s for step in steps])
        self.decode_s = np.array([step.low_token_s for step in steps])
        self.context_token_s = np.array([step.context_token_s for step in steps])
        self.full_s = np.array(
            [step.step_s(0, 0.0, r.token_budget) for step, r in zip(steps, replicas, strict=True)]
        )
        columns = (self.token_s, self.decode_s, self.context_token_s)
        self._mean_s = tuple(float(column.mean()) for column in columns)
        self.prefixes = PrefixIndex(n)
        self._since: list[deque[tuple[float, RoutedRequest]]] = [deque() for _ in replicas]
        self._delay_s = delay_s

    def __len__(self) -> int:
        return len(self.replicas)

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
        context = length * (request.prompt_tokens + 0.5 * length)
        token_s, decode_s, context_s = self._mean_s
        return token_s * new_tokens + decode_s * length + context_s * context

    def _add(self, i: int, request: RoutedRequest, now_s: float) -> None:
        self.waiting[i] += 1
        self.prefill_tokens[i, due_bucket(request.deadline_s - now_s)] += request.prompt_tokens
        self.kv_free_tokens[i] -= request.prompt_tokens
        self.tightest_s[i] = min(self.tightest_s[i], request.slo.tpot_s)
