"""How much engine time does a request take, beside the others?"""

from __future__ import annotations

from scorpio.core.latency import Number, StepModel
from scorpio.core.snapshot import EngineLimits


def prefill_work_s(model: StepModel, tokens: Number, prefix: Number) -> Number:
    """Time of so many prompt tokens beside other work, behind a prefix already in KV."""
    return tokens * (model.high_token_s + model.prefill_prefix_s * (prefix + 0.5 * tokens))


def decode_work_s(model: StepModel, context: Number, output: Number) -> Number:
    """Time of so many decodes beside other work, from this context on."""
    return output * (model.high_token_s + model.context_token_s * (context + 0.5 * output))


def full_step_s(model: StepModel, limits: EngineLimits) -> float:
    """The longest step that the engine's limits allow: its token budget beside a full batch."""
    prefill_s = prefill_work_s(model, limits.token_budget, limits.max_model_len)
    return prefill_s + model.step_s(limits.max_num_seqs, limits.kv_tokens)
