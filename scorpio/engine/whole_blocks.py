"""How many tokens must a planned step have, so that vLLM does not cut its prompt to nothing?

Where chunks end at boundaries of blocks (core/chunks.py), a plan that leaves a prompt less than
what it lacks to the next one would have none of it computed, in this step and in each like it. vLLM
is asked for what it would compute of the first prompt that gets a part in the step; where that is
nothing, the step's budget is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

from scorpio.core.chunks import rounded
from scorpio.engine.gated_queue import GatedQueue
from scorpio.engine.view.encoder import chunk_limit
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.view.startable import can_continue


def budget_in_blocks(
    scheduler: AsyncScheduler,
    queue: GatedQueue,
    starting: Sequence[str] | None,
    tracked: Mapping[str, Tracked],
    most: int,
) -> int:
    """The budget of a step whose plan is carried out but for that: `running` is in order, and what
    sits out is marked. most: the engine's own budget."""
    budget = scheduler.max_num_scheduled_tokens
    left, limit = budget, chunk_limit(scheduler)
    for request, computed in _in_order(scheduler, queue, starting, tracked):
        if left <= 0:
            return budget
        wanted = request.num_tokens_with_spec + request.num_output_placeholders - computed
        if computed >= max(request.num_prompt_tokens, request.num_tokens - 1):  # it decodes
            left -= wanted
            continue
        room = min(wanted, limit or wanted)
        offered, beside = min(room, left), budget - left
        if _split(scheduler, request, offered, computed):
            return budget
        block = int(scheduler.cache_config.block_size)
        part = rounded(computed, wanted, offered, beside, block, min(room, most - beside))
        return beside + part if part else budget
    return budget


def _in_order(
    scheduler: AsyncScheduler,
    queue: GatedQueue,
    starting: Sequence[str] | None,
    tracked: Mapping[str, Tracked],
) -> Iterator[tuple[Request, int]]:
    """Those that get a part in this step, as vLLM comes to them, and their computed tokens: of
    those that wait only the first, for if it gets nothing none does."""
    for request in scheduler.running:
        if can_continue(request, scheduler.current_step, scheduler.max_model_len):
            yield request, request.num_computed_tokens
    ids = queue.startable() if starting is None else starting
    if len(scheduler.running) < scheduler.max_num_running_reqs:
        for request_id in islice(ids, 1):
            view = tracked[request_id].view
            yield (
                (request := queue.get(request_id)),
                request.num_computed_tokens or view.cached_tokens,
            )


def _split(scheduler: AsyncScheduler, request: Request, offered: int, computed: int) -> int:
    """What vLLM makes of that many tokens of it."""
    hits = computed - request.num_computed_tokens
    return int(scheduler._mamba_block_aligned_split(request, offered, hits))
