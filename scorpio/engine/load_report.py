"""What does an engine tell routers of its load? A line of numbers, made when it is asked for."""

from __future__ import annotations

from scorpio.core.routing.load import ReplicaLoad, by_due, counted
from scorpio.engine.scheduler import ScorpioScheduler


def replica_load(scheduler: ScorpioScheduler, at_s: float) -> ReplicaLoad:
    """As of now. at_s: on the clock of the router that will read it."""
    now_s = scheduler.now_s()
    running, waiting = list(scheduler.running), list(scheduler.waiting)
    views = [scheduler.view_of(request) for request in running]
    queued = [scheduler.view_of(request) for request in waiting]
    prefills = [
        (view.deadline_s - now_s, max(view.prompt_tokens - request.num_computed_tokens, 0))
        for view, request in zip(views, running, strict=True)
    ]
    prefills += [(view.deadline_s - now_s, view.prefill_tokens) for view in queued]
    block = scheduler.block_size
    return ReplicaLoad(
        at_s=at_s,
        running=len(running),
        waiting=len(waiting),
        context_tokens=sum(request.num_computed_tokens for request in running),
        kv_free_tokens=scheduler.kv_cache_manager.block_pool.get_num_free_blocks() * block,
        prefill_tokens=by_due(prefills),
        batch=counted(view.slo.tpot_s for view in views),
        waiting_batch=counted(view.slo.tpot_s for view in queued),
    )
