"""What does a request need at least, whatever the policy? Work and windows for `bound`.

Every number is a lower bound on engine time, or an upper bound on a window, over all ways to
serve the request so that it is good (chunking, order, preemption, skipped steps). The step
model is `StepModel` plus a constant gap per step; with T tokens in a step,
  step >= fixed_s + token_s*T  and  step >= dense_fixed_s + dense_token_s*T,
both plus the attention terms: the second line is the tangent above the knee (low <= high).
A model with low > high is concave; then token_s = high, and the second line says nothing new.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scorpio.core.latency import StepModel
from workloads.request import WorkloadRequest
from workloads.results.records import TIME_TOLERANCE_S


@dataclass(frozen=True, slots=True)
class BoundEngine:
    """What the engine can hold. kv_tokens counts KV slots of the whole pool."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    kv_tokens: int = 320_000
    kv_block_tokens: int = 16
    prefix_caching: bool = False

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "kv_tokens", "kv_block_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class StepCost:
    """The two lines under the step time, see the module docstring. All seconds."""

    fixed_s: float
    token_s: float
    dense_fixed_s: float
    dense_token_s: float

    @classmethod
    def of(cls, step: StepModel, gap_s: float) -> StepCost:
        """Raises ValueError when a step could take no time at all."""
        fixed_s, low, high = step.base_s + gap_s, step.low_token_s, step.high_token_s
        if not (math.isfinite(gap_s) and gap_s >= 0.0):
            raise ValueError(f"gap_s must be finite and >= 0, got {gap_s!r}")
        if fixed_s <= 0.0:
            raise ValueError("a bound needs base_s + gap_s > 0: else steps are free")
        if low > high:
            return cls(fixed_s, high, fixed_s, high)
        return cls(fixed_s, low, fixed_s - (high - low) * step.knee_tokens, high)

    def least_s(self, steps: float, tokens: float) -> float:
        """At least this much for `tokens` in at least `steps` steps (attention not counted)."""
        if self.dense_fixed_s < 0.0:  # more steps may be cheaper: up to where the lines cross
            crossing = (self.dense_token_s - self.token_s) / (self.fixed_s - self.dense_fixed_s)
            steps = max(steps, tokens * crossing)
        return max(
            steps * self.fixed_s + tokens * self.token_s,
            steps * self.dense_fixed_s + tokens * self.dense_token_s,
        )


@dataclass(frozen=True, slots=True)
class Demand:
    """One request that can be good: it must do this much, this early.

    The first token falls in [first_token_s, ttft_deadline_s]; the `decodes` tokens after it come
    in different steps, within decode_window_s of the first token and before end_deadline_s.
    decode_attention_s: engine time that each decode token costs beyond being a token in its step;
    more_attention_s: what attention costs beyond that, at any time from arrival to last token.
    alone_s: engine time for the whole request when it is alone.
    """

    send_s: float
    first_token_s: float
    ttft_deadline_s: float
    decodes: int
    decode_window_s: float
    end_deadline_s: float
    prefill_tokens: int
    decode_attention_s: float
    more_attention_s: float
    kv_tokens: int
    alone_s: float


def demands(
    requests: Sequence[WorkloadRequest], step: StepModel, gap_s: float, limits: BoundEngine
) -> list[Demand]:
    """The requests that could be good if they had the engine to themselves; the rest never can."""
    cost = StepCost.of(step, gap_s)
    reuse = reusable_tokens(requests) if limits.prefix_caching else [0] * len(requests)
    found = (_demand(r, u, step, cost, limits) for r, u in zip(requests, reuse, strict=True))
    return [demand for demand in found if demand is not None]


def reusable_tokens(requests: Sequence[WorkloadRequest]) -> list[int]:
    """Prompt tokens that a perfect prefix cache could save, per request.

    A block is charged to the request sent first of all that contain it. That is a lower bound:
    if that one is good, a request computed the block after it was sent and before its first token.
    """
    seen: set[tuple[int, int]] = set()
    saved = [0] * len(requests)
    for i in sorted(range(len(requests)), key=lambda i: (requests[i].send_s, i)):
        keys = list(enumerate(requests[i].hash_ids))
        hits = next((k for k, key in enumerate(keys) if key not in seen), len(keys))
        saved[i] = max(0, min(hits * requests[i].block_tokens, requests[i].prompt_tokens - 1))
        seen.update(keys)
    return saved


def _demand(
    request: WorkloadRequest, reused: int, step: StepModel, cost: StepCost, limits: BoundEngine
) -> Demand | None:
    prompt, decodes = request.prompt_tokens, request.output_tokens - 1
    if prompt < 1 or decodes < 0:
        return None  # an engine answers neither
    if prompt + decodes > limits.kv_tokens:
        return None
    prefill = prompt - reused
    prefill_attention_s = _prefill_attention_s(prompt, reused, step, limits)
    token_attention_s = _decode_attention_s(prompt, decodes, step, cost, limits)
    least_s = min(token_attention_s, default=0.0)
    chunks = math.ceil(prefill / limits.max_num_batched_tokens)
    first_s = request.send_s + cost.least_s(chunks, prefill) + prefill_attention_s
    decode_s = cost.least_s(decodes, decodes) + sum(token_attention_s)
    end_s = request.send_s + request.e2e_slo_s + TIME_TOLERANCE_S
    ttft_s = min(request.send_s + request.ttft_slo_s + TIME_TOLERANCE_S, end_s)
    window_s = decodes * (request.tpot_slo_s + TIME_TOLERANCE_S) if decodes else 0.0
    if first_s > ttft_s or decode_s > window_s or first_s + decode_s > end_s:
        return None
    return Demand(
        request.send_s,
        first_s,
        ttft_s,
        decodes,
        window_s,
        min(end_s, ttft_s + window_s),
        prefill,
        least_s,
        prefill_attention_s + sum(token_attention_s) - decodes * least_s,
        prompt,
        first_s - request.send_s + decode_s,
    )


def _prefill_attention_s(prompt: int, reused: int, step: StepModel, limits: BoundEngine) -> float:
    """A chunk of n tokens after p others costs sq*n^2 + prefix*n*p. With n <= n_max its token at
    position t accounts for at least prefix*t + sq (if sq >= prefix/2), else for at least
    prefix*(t + 1/2) - (prefix/2 - sq)*n_max; each position is computed once at least."""
    sq, prefix = step.prefill_sq_s, step.prefill_prefix_s
    tokens = prompt - reused
    positions = (prompt * (prompt - 1) - reused * (reused - 1)) / 2.0
    if sq >= prefix / 2.0:
        return prefix * positions + sq * tokens
    longest = min(tokens, limits.max_num_batched_tokens)
    return max(0.0, prefix * (positions + tokens / 2.0) - (prefix / 2.0 - sq) * longest * tokens)


def _decode_attention_s(
    prompt: int, decodes: int, step: StepModel, cost: StepCost, limits: BoundEngine
) -> list[float]:
    """What each decode token costs beyond being a token. Token k reads a context of prompt + k - 1
    tokens or more. A preempted request may instead get a token out of recomputing its context:
    all of it without prefix caching, else at least what a cached prefix of whole blocks leaves.
    The second cost is in proportion to the recomputed tokens, wherever these are computed."""
    costs: list[float] = []
    block = limits.kv_block_tokens
    for context in range(prompt, prompt + decodes):
        again = context % block + 1 if limits.prefix_caching else context + 1
        prefix = context + 1 - again
        each_s = step.prefill_sq_s + step.prefill_prefix_s * prefix
        costs.append(
            min(step.context_token_s * context, cost.token_s * (again - 1) + each_s * again)
        )
    return costs
