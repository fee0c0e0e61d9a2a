"""Is the scheduler still sane? Checked after every step when asked for.

Numbers are those of docs/guarantees.md. The streams themselves (1, 2, 3,
13, 14) are checked by the ledger, always. 7, 9-11 and 15-18 are promises of a policy, tested with
the policies; 15 is checked here as a bound on waiting when one is given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from scorpio.engine.virtual.requests import Request, Scheduler, SchedulerOutput
from scorpio.twin.engine.ledger import InvariantViolation, Ledger
from scorpio.twin.engine.runner import StepWork

_GRACE_STEPS = 4  # a refusal travels with the next output: the pipeline depth, and some


class Checker:
    """Holds what must be compared across calls; `max_wait_s` bounds time without an answer."""

    def __init__(self, max_wait_s: float = math.inf) -> None:
        self._max_wait_s = max_wait_s
        self._decodes: list[Request] = []
        self._chunks: list[Request] = []
        self._missing: dict[str, int] = {}
        self.checks = 0

    def before_schedule(self, scheduler: Scheduler) -> None:
        """Remember which could decode."""
        self._chunks = [r for r in scheduler.running if r.is_prefill_chunk]
        self._decodes = [
            r for r in scheduler.running if not r.is_prefill_chunk and not awaits_last(r)
        ]

    def after_schedule(self, scheduler: Scheduler, step: SchedulerOutput, work: StepWork) -> None:
        """8: progress. 12: prefill chunks are not skipped. Limits of the engine."""
        total = step.total_num_scheduled_tokens
        budget = scheduler.scheduler_config.max_num_batched_tokens
        self.require(total <= budget, 19, f"{total} tokens scheduled, budget {budget}")
        limit = scheduler.scheduler_config.max_num_seqs
        self.require(
            len(scheduler.running) <= limit, 19, f"{len(scheduler.running)} run, {limit} may"
        )
        stayed = {r.request_id for r in scheduler.running}
        could = [r for r in self._decodes if r.request_id in stayed]
        ran = any(r.request_id in step.num_scheduled_tokens for r in could)
        blocked = total >= budget or step.preempted_req_ids
        self.require(
            not could or ran or bool(blocked), 8, f"none of {len(could)} decodes scheduled"
        )
        for request in self._chunks:
            held = request.next_decode_eligible_step > scheduler.current_step + 1
            self.require(not (held and request.is_prefill_chunk), 12, f"{request.request_id} held")

    def after_update(self, scheduler: Scheduler, ledger: Ledger, now_s: float) -> None:
        """Membership (1, 6), blocks (5), bounded waiting (15)."""
        self.checks += 1
        self._check_membership(scheduler, ledger)
        check_blocks(scheduler)
        for request_id in scheduler.requests:
            entry = ledger.entries[request_id]
            waited_s = now_s - entry.arrival.arrival_s
            late = waited_s > self._max_wait_s and not entry.tokens
            self.require(not late, 15, f"{request_id} waits for {waited_s:.3f} s")

    def after_abort(self, scheduler: Scheduler, request_id: str) -> None:
        """25: a request that was cancelled holds nothing."""
        self.require(request_id not in scheduler.requests, 25, f"{request_id} is still known")
        held = any(request_id in table for table in _block_tables(scheduler))
        self.require(not held, 25, f"{request_id} still holds blocks")

    def require(self, kept: bool, number: int, message: str) -> None:
        """A promise, by its number; raises InvariantViolation when it is not kept."""
        require(kept, number, message)

    def drained(self, scheduler: Scheduler, ledger: Ledger) -> None:
        """4, 5: nothing is left of any request."""
        left = {
            "requests": len(scheduler.requests),
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
            "kv_holding_waiting": len(scheduler.kv_holding_waiting),
            "deferred_waiting": len(scheduler.deferred_waiting),
            "ours": len(_own_ids(scheduler)),
            "blocks": sum(len(table) for table in _block_tables(scheduler)),
            "clients without an answer": ledger.live,
            "queued prompt tokens": ledger.prefill_tokens,
        }
        self.require(not sum(left.values()), 4, f"left after draining: {left}")
        check_blocks(scheduler)

    def _check_membership(self, scheduler: Scheduler, ledger: Ledger) -> None:
        places = Counter(r.request_id for r in scheduler.running)
        places.update(r.request_id for r in scheduler.waiting)
        places.update(r.request_id for r in scheduler.kv_holding_waiting)
        known = scheduler.requests.keys()
        self.require(
            places.keys() == known, 6, f"queues and requests differ: {places.keys() ^ known}"
        )
        twice = [i for i, n in places.items() if n > 1]
        self.require(not twice, 6, f"queued twice: {twice}")
        strangers = _own_ids(scheduler) - known
        self.require(not strangers, 6, f"ScorpioScheduler remembers {strangers}")
        ended = [i for i in known if ledger.entries[i].end is not None]
        self.require(not ended, 2, f"ended for the client, alive in the scheduler: {ended}")
        self._check_unanswered(known, ledger)

    def _check_unanswered(self, known: Iterable[str], ledger: Ledger) -> None:
        """A request that left the scheduler must be answered within a few steps."""
        gone = ledger.submitted.difference(known)
        self._missing = {i: self._missing.get(i, 0) + 1 for i in gone}
        lost = [i for i, steps in self._missing.items() if steps > _GRACE_STEPS]
        self.require(not lost, 1, f"left the scheduler without an answer: {lost}")


def check_blocks(scheduler: Scheduler) -> None:
    pool = scheduler.kv_cache_manager.block_pool
    held: Counter[int] = Counter()
    counts: dict[int, int] = {}
    for table in _block_tables(scheduler):
        strangers = table.keys() - scheduler.requests.keys()
        require(not strangers, 5, f"blocks held by requests that are gone: {strangers}")
        for blocks in table.values():
            for block in blocks:
                if not block.is_null:
                    held[block.block_id] += 1
                    counts[block.block_id] = block.ref_cnt
    require(held == counts, 5, "a block's reference count differs from its holders")
    free, total = pool.get_num_free_blocks(), pool.num_gpu_blocks - 1
    require(free + len(held) == total, 5, f"{free} free + {len(held)} held blocks != {total}")


def _block_tables(scheduler: Scheduler) -> list[dict[str, list[Any]]]:
    managers = scheduler.kv_cache_manager.coordinator.single_type_managers
    return [manager.req_to_blocks for manager in managers]


def _own_ids(scheduler: Scheduler) -> set[str]:
    """What `ScorpioScheduler` remembers; nothing on a stock scheduler."""
    return getattr(scheduler, "tracked_ids", set())


def awaits_last(request: Request) -> bool:
    """Its last possible token is in flight (vLLM's own test in `schedule`)."""
    return bool(
        request.num_output_placeholders > 0
        and request.num_computed_tokens + 2 - request.num_output_placeholders
        >= request.num_prompt_tokens + request.max_tokens
    )


def require(kept: bool, number: int, message: str) -> None:
    """Raises InvariantViolation, which begins with the number, when a promise is not kept."""
    if not kept:
        raise InvariantViolation(f"{number}: {message}")
