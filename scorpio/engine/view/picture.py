"""What does the engine look like to a policy? Its limits, and the snapshot of one step."""

from __future__ import annotations

from dataclasses import replace

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from scorpio.core.snapshot import EngineLimits, RunningBatch, Snapshot
from scorpio.core.waiting import WaitingTable
from scorpio.engine.view.kv_groups import chunk_block, is_plain, kv_need
from scorpio.engine.view.remote_kv import returning


def engine_limits(scheduler: AsyncScheduler) -> EngineLimits:
    """Of a constructed scheduler."""
    # One block is vLLM's null block; where layers differ (sliding windows, Mamba) a token takes a
    # place in several groups of blocks, or in none, and vLLM's own count is what counts.
    blocks, stated = _blocks(scheduler), scheduler.cache_config.kv_cache_size_tokens
    whole = blocks * scheduler.block_size
    kv_tokens = min(whole, stated or whole) if is_plain(scheduler) else stated or whole
    lora, block = scheduler.lora_config, chunk_block(scheduler)
    return EngineLimits(
        max_num_seqs=scheduler.max_num_active_reqs,
        token_budget=scheduler.max_num_scheduled_tokens,
        kv_tokens=kv_tokens,
        block_tokens=scheduler.block_size,
        max_model_len=scheduler.max_model_len,
        max_adapters=0 if lora is None else lora.max_loras,
        long_prompt_tokens=scheduler.scheduler_config.long_prefill_token_threshold,
        chunk_block=block,
        tail_apart=block > 0 and not scheduler.mamba_has_prefill_checkpoint_blocks,
        kv_need=kv_need(scheduler, kv_tokens, blocks),
    )


def rank(scheduler: AsyncScheduler) -> int:
    """Which of the data-parallel engines is this? Each rank of a dense model is told that it is the
    only one (`reconfigure_for_independent_dp_rank`); its index it keeps."""
    return int(scheduler.parallel_config.data_parallel_index)


def snapshot(
    scheduler: AsyncScheduler,
    limits: EngineLimits,
    running: RunningBatch,
    waiting: WaitingTable,
    executing_since_s: float,
) -> Snapshot:
    """As of now."""
    free_blocks = _free_blocks(scheduler)
    if len(running):  # vLLM keeps these from those that would join
        free_blocks = max(free_blocks - scheduler.kv_cache_manager.watermark_blocks, 0)
    taken = scheduler.num_waiting_for_streaming_input  # they keep their seats between two inputs
    if scheduler.connector is not None:
        taken += len(returning(scheduler))  # they take theirs before all others
    if taken:
        limits = replace(limits, max_num_seqs=max(limits.max_num_seqs - taken, 0))
    return Snapshot(
        running=running,
        waiting=waiting,
        limits=limits,
        kv_free_tokens=_tokens(scheduler, limits, free_blocks),
        executing_since_s=executing_since_s,
    )


def kv_free_tokens(scheduler: AsyncScheduler, limits: EngineLimits) -> int:
    """Of the whole pool."""
    return _tokens(scheduler, limits, _free_blocks(scheduler))


def _tokens(scheduler: AsyncScheduler, limits: EngineLimits, blocks: int) -> int:
    return blocks * limits.kv_tokens // _blocks(scheduler)


def _free_blocks(scheduler: AsyncScheduler) -> int:
    return int(scheduler.kv_cache_manager.block_pool.get_num_free_blocks())


def _blocks(scheduler: AsyncScheduler) -> int:
    num_blocks = scheduler.cache_config.num_gpu_blocks
    assert num_blocks is not None
    return num_blocks - 1
