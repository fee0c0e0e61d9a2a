"""What is the best that any policy could do? Every schedule of a tiny instance, tried out.

Knows the step model exactly and nothing about `workloads.bound.ceiling`. A schedule is a sequence
of steps; in each, every request does nothing, some prompt tokens, one decode, or it is preempted
and recomputes (from nothing, or from the whole blocks that a prefix cache still holds).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from scorpio.core.latency import StepModel
from workloads.bound.demand import BoundEngine
from workloads.request import WorkloadRequest
from workloads.results.records import TIME_TOLERANCE_S


@dataclass(frozen=True, slots=True)
class _State:
    """kv: tokens held; recompute: the next tokens are a prompt's, not one decode."""

    kv: int = 0
    produced: int = 0
    recompute: bool = True
    first_s: float = -1.0


@dataclass(frozen=True, slots=True)
class _Work:
    """One request's part of one step."""

    after: _State
    tokens: int
    decode_context: int
    prefix: int
    emits: bool


_MOST_STEPS = 200  # without deadlines one can preempt for ever


class _TooManyError(Exception):
    pass


class Exhaustive:
    """`best()` = the largest possible number of good requests."""

    def __init__(
        self,
        requests: Sequence[WorkloadRequest],
        step: StepModel,
        gap_s: float,
        limits: BoundEngine,
        preempt: bool = False,
        most_states: int = 10_000_000,
    ) -> None:
        self._requests, self._step, self._gap_s = requests, step, gap_s
        self._limits, self._preempt = limits, preempt
        self._best = 0
        self._seen: set[tuple[float, tuple[_State | None, ...]]] = set()
        self._most_states = most_states

    def best(self) -> int | None:
        """Tries everything that could still beat the best found; None if that is too much."""
        try:
            self._search(0.0, tuple(_State() for _ in self._requests), 0, 0)
        except _TooManyError:
            return None
        return self._best

    def _search(
        self, now_s: float, states: tuple[_State | None, ...], good: int, depth: int
    ) -> None:
        alive = tuple(
            None if s is None or self._hopeless(i, s, now_s) else s for i, s in enumerate(states)
        )
        self._best = max(self._best, good)
        key = (round(now_s, 9), alive)
        if good + sum(s is not None for s in alive) <= self._best or key in self._seen:
            return
        self._seen.add(key)
        if len(self._seen) > self._most_states or depth > _MOST_STEPS:
            raise _TooManyError
        options = [list(self._options(i, s, now_s)) for i, s in enumerate(alive)]
        # Busy steps first: a good schedule found early prunes the rest.
        for choice in product(*options):
            work = [w for w in choice if w is not None]
            if work and self._fits(work):
                self._take(now_s, alive, choice, work, good, depth)
        later = [r.send_s for r in self._requests if r.send_s > now_s]
        if later:  # or idle until one comes; idling for none helps none
            self._search(min(later), alive, good, depth + 1)

    def _take(
        self,
        now_s: float,
        states: tuple[_State | None, ...],
        choice: tuple[_Work | None, ...],
        work: list[_Work],
        good: int,
        depth: int,
    ) -> None:
        prompts = [w for w in work if not w.decode_context]
        end_s = now_s + self._gap_s + self._step.step_s(
            len(work) - len(prompts),
            sum(w.decode_context for w in work),
            sum(w.tokens for w in prompts),
            sum(w.tokens**2 for w in prompts),
            sum(w.tokens * w.prefix for w in prompts),
        )  # fmt: skip
        after: list[_State | None] = []
        for i, (state, w) in enumerate(zip(states, choice, strict=True)):
            if w is None or not w.emits:
                after.append(state if w is None else w.after)
                continue
            first_s = end_s if w.after.produced == 1 else w.after.first_s
            now = _State(w.after.kv, w.after.produced, False, first_s)
            done = now.produced == self._requests[i].output_tokens
            good += done and not self._hopeless(i, now, end_s)
            after.append(None if done else now)
        self._search(end_s, tuple(after), good, depth + 1)

    def _hopeless(self, i: int, state: _State, now_s: float) -> bool:
        r = self._requests[i]
        if now_s > r.send_s + r.e2e_slo_s + TIME_TOLERANCE_S:
            return True
        if state.produced == 0:
            return now_s > r.send_s + r.ttft_slo_s + TIME_TOLERANCE_S
        limit_s = (r.output_tokens - 1) * (r.tpot_slo_s + TIME_TOLERANCE_S)
        late = state.first_s - r.send_s > r.ttft_slo_s + TIME_TOLERANCE_S
        return late or (r.output_tokens > 1 and now_s - state.first_s > limit_s)

    def _options(self, i: int, state: _State | None, now_s: float) -> Iterator[_Work | None]:
        if state is not None and self._requests[i].send_s <= now_s:
            yield from self._continue(i, state)
            if self._preempt and state.kv > 0 and state.produced > 0:
                block = self._limits.kv_block_tokens
                kept = state.kv // block * block if self._limits.prefix_caching else 0
                restart = _State(kept, state.produced, True, state.first_s)
                yield from self._continue(i, restart)
        yield None

    def _continue(self, i: int, state: _State) -> Iterator[_Work]:
        known = self._requests[i].prompt_tokens + state.produced
        if not state.recompute:
            after = _State(known, state.produced + 1, False, state.first_s)
            yield _Work(after, 1, known - 1, 0, True)
            return
        for n in range(known - state.kv, 0, -1):
            full = state.kv + n == known
            produced = state.produced + full
            after = _State(state.kv + n, produced, not full, state.first_s)
            yield _Work(after, n, 0, state.kv, full)

    def _fits(self, work: list[_Work]) -> bool:
        limits = self._limits
        return (
            len(work) <= limits.max_num_seqs
            and sum(w.tokens for w in work) <= limits.max_num_batched_tokens
            and sum(w.after.kv for w in work) <= limits.kv_tokens
        )
