"""What may a policy see? The engine as it is before a step: what runs, what waits, what is left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scorpio.core.arrays import BoolArray, FloatArray, IntArray, Number
from scorpio.core.drafts import DraftView
from scorpio.core.kv_need import FULL_ATTENTION, KvNeed
from scorpio.core.request import RequestView
from scorpio.core.waiting import WaitingTable


@dataclass(slots=True)
class RunningBatch:
    """Columns over vLLM's `running` list, same order; every array has shape [B].

    slot: stable index in [0, max_num_seqs) for as long as the request stays in `running`:
        policies keep per-request state in arrays of that size, indexed by slot.
    joined: row entered `running` since the previous plan (new or resumed): reset its state.
    is_decode: its next step produces a token (its prompt is computed).
    context_tokens: tokens in KV, in-flight ones included. output_tokens: tokens produced,
        in-flight ones included. prefill_left: prompt tokens still to compute (0 for decodes).
    first_token_s: monotonic time of its first token, NaN before.
    last_token_s: due basis under stalls; monotonic time of its latest token, NaN before.
    """

    views: list[RequestView]
    slot: IntArray
    joined: BoolArray
    is_decode: BoolArray
    context_tokens: IntArray
    output_tokens: IntArray
    prefill_left: IntArray
    first_token_s: FloatArray
    tpot_slo_s: FloatArray
    deadline_s: FloatArray
    value: FloatArray

    def __len__(self) -> int:
        return len(self.views)

    @property
    def unanswered(self) -> BoolArray:
        """Unfinished prefills that have produced no token: they can still be refused."""
        unanswered: BoolArray = ~self.is_decode & (self.output_tokens == 0)
        return unanswered

    @property
    def rejectable(self) -> BoolArray:
        """Those of them that may be, by their client's word."""
        rejectable = self.unanswered
        for row in rejectable.nonzero()[0].tolist():
            rejectable[row] = self.views[row].slo.refusable
        return rejectable


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Fixed limits of the engine: sequences, tokens per step, KV pool in tokens, block size.

    max_adapters: different LoRA adapters per step (vLLM's max_loras); 0 = LoRA is off.
    long_prompt_tokens: of one prompt, the most per step (vLLM's long_prefill_token_threshold);
        0 = as many as fit.
    chunk_block: a chunk of a prompt ends at multiples of this (core/chunks.py); 0 = anywhere.
    tail_apart: what a prompt has behind the last of them is a chunk of its own.
    kv_need: what a request of so many tokens holds of the KV pool.
    """

    max_num_seqs: int
    token_budget: int
    kv_tokens: int
    block_tokens: int
    max_model_len: int
    max_adapters: int = 0
    long_prompt_tokens: int = 0
    chunk_block: int = 0
    tail_apart: bool = False
    kv_need: KvNeed = FULL_ATTENTION

    def never_fits(self, prompt_tokens: Number) -> BoolArray | bool:
        """Is a prompt too long for the whole pool? Its first token needs room too."""
        fills: BoolArray | bool = self.kv_need.of(prompt_tokens + 1) > self.kv_tokens
        return fills


@dataclass(slots=True)
class Snapshot:
    """The engine as one policy call sees it. `waiting` is kept in the policy's own order.

    executing_since_s: when the step before this one began to execute, if it still does (async
        scheduling plans one step ahead); NaN when the planned step starts at once.
    computing: which of the unfinished prefills computes which beginning (`shared_id`) for others.
    drafts: of an engine with speculative decoding, else None. What limits.token_budget says is
        without the drafts at hand; a decode counts as one token.
    """

    running: RunningBatch
    waiting: WaitingTable
    limits: EngineLimits
    kv_free_tokens: int
    executing_since_s: float = math.nan
    computing: Mapping[int, str] = field(default_factory=dict)
    drafts: DraftView | None = None

    def between_steps_s(self, tpot_slo_s: Number) -> Number:
        """How often does this TPOT SLO of a request that comes ask for a step? Drafts that are
        accepted save steps."""
        return tpot_slo_s if self.drafts is None else tpot_slo_s * self.drafts.usual_tokens


@dataclass(frozen=True, slots=True)
class StepSample:
    """One executed step, timed output to output, from which a policy learns the speed.

    prefill_tokens n and prefill_prefix_tokens p (KV already there) give the attention cost
    n^2 and n*p; decode_context_tokens is the sum of decode contexts.
    draft_tokens: of all decodes together, verified beside their own tokens.
    woken: the first step after an idle time.
    """

    prefill_tokens: int
    prefill_sq_tokens: float
    prefill_prefix_products: float
    num_decodes: int
    decode_context_tokens: int
    duration_s: float
    woken: bool = False
    draft_tokens: int = 0

    @property
    def decode_tokens(self) -> int:
        """Computed for decodes, drafts included."""
        return self.num_decodes + self.draft_tokens

    @property
    def tokens(self) -> int:
        """Computed in the step."""
        return self.prefill_tokens + self.decode_tokens
