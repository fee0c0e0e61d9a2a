"""What load can this engine carry? A rough estimate from its measured profile.

In a steady state every decode step also carries its share of arriving prompts: B running requests
of mean output O finish B/O requests a step, so B/O new prompts are prefilled in it. The mean TPOT
is the time of that step. Capacity is the request rate at the largest B whose step is still within
the TPOT promise. It is a yardstick to choose a load by, not a promise.
"""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.core.latency import StepModel


@dataclass(frozen=True, slots=True)
class Capacity:
    """Rate in requests per second, reached with `batch` running and steps of `step_s`."""

    rate_rps: float
    batch: int
    step_s: float


def estimate_capacity(
    model: StepModel,
    prompt_tokens: float,
    output_tokens: float,
    tpot_slo_s: float,
    max_batch: int = 256,
) -> Capacity:
    """Capacity for requests of these mean sizes; batch 1 when even that is too slow."""
    best = _steady(model, prompt_tokens, output_tokens, 1)
    for batch in range(2, max_batch + 1):
        state = _steady(model, prompt_tokens, output_tokens, batch)
        if state.step_s > tpot_slo_s:
            break
        if state.rate_rps > best.rate_rps:
            best = state
    return best


def _steady(model: StepModel, prompt_tokens: float, output_tokens: float, batch: int) -> Capacity:
    arrivals = batch / output_tokens  # prompts prefilled per step
    step_s = model.step_s(
        decodes=batch,
        decode_context_tokens=batch * (prompt_tokens + output_tokens / 2.0),
        prefill_tokens=arrivals * prompt_tokens,
        prefill_sq_tokens=arrivals * prompt_tokens**2,
    )
    return Capacity(arrivals / step_s, batch, step_s)
