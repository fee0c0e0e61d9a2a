"""How much engine time does a request take, beside the others?"""

from __future__ import annotations

from scorpio.core.arrays import Number
from scorpio.core.latency import StepModel
from scorpio.core.snapshot import EngineLimits


def prefill_work_s(model: StepModel, tokens: Number, prefix: Number) -> Number:
    """Time of so many prompt tokens beside other work, behind a prefix already in KV."""
    return tokens * (model.high_token_s + model.prefill_prefix_s * (prefix + 0.5 * tokens))


def decode_work_s(model: StepModel, context: Number, output: Number) -> Number:
    """Time of so many decodes beside other work, from this context on."""
    return output * (model.high_token_s + model.context_token_s * (context + 0.5 * output))


_SHORTEST_S = 1e-3  # a step takes longer on any engine; the model of an unmeasured one says 0
_USUAL_STEP = 8.0  # steps of one decode: without a tight target a step is not longer, on average


def usually_s(model: StepModel, may_s: float) -> float:
    """What steps that may take so long will take at most, as a rule."""
    return min(may_s, _USUAL_STEP * model.step_s(1, 0.0))


def longest_step_s(model: StepModel, limits: EngineLimits, alone_s: float) -> float:
    """The longest there may be beside decodes that take so long alone."""
    return max(full_step_s(model, limits), alone_s, _SHORTEST_S)


def full_step_s(model: StepModel, limits: EngineLimits) -> float:
    """The longest step that the engine's limits allow: its token budget beside a full batch."""
    prefill_s = prefill_work_s(model, limits.token_budget, limits.max_model_len)
    return prefill_s + model.step_s(limits.max_num_seqs, limits.kv_tokens)
