"""Which groups of layers draw on the KV pool, and how much of it does a request hold in each?

A request holds all of its blocks in a group with full attention, the last ones in a group with a
window, and in one of Mamba layers the blocks of its state: vLLM's own numbers, without the chunk
that is being computed. Line references are to vllm/v1/core/sched/scheduler.py (0.32.0).
"""

from __future__ import annotations

import math
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager
from vllm.v1.kv_cache_interface import MambaSpec

from scorpio.core.kv_need import FULL_ATTENTION, KvGroup, KvNeed


def kv_need(scheduler: AsyncScheduler, pool_tokens: int, pool_blocks: int) -> KvNeed:
    """What a request of so many tokens holds of a pool of this size."""
    if is_plain(scheduler):
        return FULL_ATTENTION
    groups = (KvGroup(manager.block_size, _most_held(manager)) for manager in _managers(scheduler))
    return KvNeed(tuple(groups), pool_tokens, pool_blocks)


def is_plain(scheduler: AsyncScheduler) -> bool:
    """Full attention alone."""
    managers = _managers(scheduler)
    return len(managers) == 1 and _most_held(managers[0]) == math.inf


def fits(scheduler: AsyncScheduler, tokens: int, free_tokens: int, need: KvNeed) -> bool:
    """Would vLLM start a request of so many tokens now (:1240)? It asks for room for all of them,
    and of a group with a window for as much as its chunks may hold at a time."""
    if not need.groups:
        return tokens <= free_tokens
    blocks = sum(
        min(math.ceil(tokens / manager.block_size), _most_to_start(manager))
        for manager in _managers(scheduler)
    )
    return blocks * need.pool_tokens <= free_tokens * need.pool_blocks


def chunk_block(scheduler: AsyncScheduler) -> int:
    """At multiples of how many tokens do chunks end? 0: anywhere. (Of a prompt that gets fewer in
    any step, vLLM cuts none to nothing.)"""
    if not scheduler.need_mamba_block_aligned_split:
        return 0
    block = int(scheduler.cache_config.block_size)
    most = int(scheduler.scheduler_config.long_prefill_token_threshold)
    return 0 if 0 < most < block else block


def _managers(scheduler: AsyncScheduler) -> tuple[Any, ...]:
    return tuple(scheduler.kv_cache_manager.coordinator.single_type_managers)


def _most_held(manager: Any) -> float:
    spec = manager.kv_cache_spec
    if isinstance(spec, MambaSpec):
        return 1 + spec.num_speculative_blocks
    if manager.max_admission_blocks_per_request is not None:
        longest = manager.max_admission_blocks_per_request * manager.block_size
        held = spec.max_admission_blocks_per_request(max_in_flight_tokens=1, max_model_len=longest)
        return float(held)
    return math.inf if isinstance(manager, FullAttentionManager) else 1.0


def _most_to_start(manager: Any) -> float:
    most = manager.max_admission_blocks_per_request
    return _most_held(manager) if most is None else float(most)
