"""What has the ledger to say of the engine, so that its traffic can be served again in the twin?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from scorpio import __version__
from scorpio.core.latency import LatencyProfile
from scorpio.core.snapshot import EngineLimits
from scorpio.ledger.facts import Facts
from scorpio.settings import ScorpioSettings


def engine_facts(
    scheduler: AsyncScheduler,
    limits: EngineLimits,
    settings: ScorpioSettings,
    policy: tuple[str, Mapping[str, float]],
    profile: LatencyProfile | None,
) -> Facts:
    """As of now. policy: the one in force, and its options."""
    values = {name: entry.value for name, entry in settings.classes.items() if entry.value != 1.0}
    return Facts(
        since_unix_s=round(scheduler.wall_s(), 6),
        engine=int(scheduler.parallel_config.data_parallel_index),
        version=__version__,
        policy=policy[0],
        policy_options=dict(policy[1]),
        limits=_limits(scheduler, limits),
        latency=None if profile is None else profile.to_dict(),
        shadow=settings.shadow,
        shadow_options=dict(settings.shadow_options),
        values=values,
    )


def _limits(scheduler: AsyncScheduler, limits: EngineLimits) -> dict[str, Any]:
    """Of vLLM's flags those that matter to scheduling, as it has settled them."""
    config = scheduler.scheduler_config
    flags = (
        "max_num_seqs",
        "max_num_active_seqs",
        "max_num_batched_tokens",
        "policy",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "long_prefill_token_threshold_adaptive",
        "watermark",
    )
    # vLLM versions have more or fewer of them
    known = {name: getattr(config, name) for name in flags if hasattr(config, name)}
    return known | {
        "max_model_len": limits.max_model_len,
        "block_size": limits.block_tokens,
        "num_blocks": limits.kv_tokens // limits.block_tokens + 1,
        "enable_prefix_caching": bool(scheduler.kv_cache_manager.enable_caching),
        "pipeline_depth": 2 if config.async_scheduling else 1,
        "num_speculative_tokens": int(scheduler.num_spec_tokens),
        "max_loras": limits.max_adapters,
    }
