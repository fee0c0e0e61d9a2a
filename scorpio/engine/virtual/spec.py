"""Which flags of an engine matter to scheduling? A value that needs no vLLM to be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The engine flags that matter to scheduling; names and defaults as in vLLM where it has one.

    num_blocks: size of the KV pool. pipeline_depth: 2 = async scheduling (vLLM's default on GPUs).
    max_num_queued_tokens / max_num_queued_reqs are enforced by vLLM in the API process; the twin's
    front door applies the same rule. model_runner: which runner's bookkeeping the scheduler uses.
    max_loras: adapters per batch; 0 = LoRA is off. num_speculative_tokens: drafts per decode.
    sliding_window: > 0: half of the layers look no further back, and the two kinds share one pool.
    mamba_groups: of layers with a state, beside the others, in the same pool; mamba_cache_mode: how
    prefix caching treats them. attention: False = they are all there is.
    """

    max_num_seqs: int = 256
    max_num_active_seqs: int | None = None
    max_num_batched_tokens: int = 2048
    num_blocks: int = 20_000
    block_size: int = 16
    max_model_len: int = 131_072
    enable_prefix_caching: bool = False
    enable_chunked_prefill: bool = True
    policy: Literal["fcfs", "priority"] = "fcfs"
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    max_num_queued_tokens: int | None = None
    max_num_queued_reqs: int | None = None
    watermark: float = 0.0
    pipeline_depth: Literal[1, 2] = 2
    model_runner: Literal["v1", "v2"] = "v2"
    max_loras: int = 0
    num_speculative_tokens: int = 0
    sliding_window: int = 0
    mamba_groups: int = 0
    mamba_cache_mode: Literal["none", "align"] = "none"
    attention: bool = True

    @property
    def kv_tokens(self) -> int:
        """Tokens the KV pool holds (vLLM keeps one block as the null block)."""
        return (self.num_blocks - 1) * self.block_size

    @property
    def effective_max_model_len(self) -> int:
        """What an operator would have to set: vLLM refuses to start with more."""
        longest = min(self.max_model_len, self.kv_tokens)
        return longest if self.enable_chunked_prefill else min(longest, self.max_num_batched_tokens)
