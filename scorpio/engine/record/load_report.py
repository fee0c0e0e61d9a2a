"""What does an engine tell routers of its load? A line of numbers, made when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

from scorpio.core.request import RequestView
from scorpio.core.routing.load import ReplicaLoad, by_due, counted
from scorpio.engine.gated_queue import GatedQueue
from scorpio.engine.view.remote_kv import loading


def replica_load(
    running: Sequence[tuple[Request, RequestView]],
    waiting: GatedQueue,
    kv_free_tokens: int,
    now_s: float,
    at_s: float,
    loading: int = 0,
) -> ReplicaLoad:
    """As of now. at_s: on the clock of the router that will read it. loading: so many more wait
    for their KV.

    The running ones are read one by one (the columns that a policy plans with say who has joined
    since they were last asked for); those that wait may be many, and are columns.
    """
    queue = waiting.table
    computed = [request.num_computed_tokens for request, _ in running]
    views = [view for _, view in running]
    left = [max(v.prompt_tokens - done, 0) for v, done in zip(views, computed, strict=True)]
    due_s = np.concatenate([[v.deadline_s for v in views], queue.deadline_s]) - now_s
    return ReplicaLoad(
        at_s=at_s,
        running=len(running),
        waiting=len(waiting) + loading,
        context_tokens=sum(computed),
        kv_free_tokens=kv_free_tokens,
        prefill_tokens=by_due(due_s, np.concatenate([left, queue.prefill_tokens])),
        batch=counted(view.slo.tpot_s for view in views),
        waiting_batch=counted(queue.tpot_slo_s.tolist()),
    )


def waiting_now(scheduler: AsyncScheduler, queue: GatedQueue) -> dict[str, object]:
    """For the status: how many run, how many wait, and how many of those could not start now."""
    on_the_way = len(loading(scheduler))
    idle = queue.num_held + on_the_way
    unable = idle - len(queue.no_room)  # the encoder's room is the engine's own matter
    return {
        "unfinished": max(scheduler.get_num_unfinished_requests() - unable, 0),
        "running": len(scheduler.running),
        "waiting": len(queue) + on_the_way,
        "waiting_not_startable": idle,
        "waiting_for_remote_kv": on_the_way,
        "waiting_prompt_tokens": queue.prompt_tokens,
    }
