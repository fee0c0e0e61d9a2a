"""Of which steps were a log's own times made, by a rough look that replays nothing?

While a request decodes, it is in every step. So the time from its first to its last token is as
many steps as it got tokens, and what others got and had prefilled meanwhile was computed in them.
A fit to this says which built-in model is the nearest and where to begin; a replay knows the rest.
"""

from __future__ import annotations

import math

import numpy as np

from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.fidelity.replay import PARTS, Floats, Replay
from scorpio.twin.gpu.step_models import GpuModel


def first_look(log: EngineLog, gpu: GpuModel, wanted: int, budget: int) -> Replay:
    """What `gpu` makes of the steps that the first requests were seen in; nothing of TTFT.

    budget: tokens of a step at most, so of a chunk of prefill.
    """
    first_s = np.array([r.first_token_s for r in log.real], dtype=float)
    last_s = np.array([r.last_token_s for r in log.real], dtype=float)
    prompts = np.array([float(r.prompt_tokens or 0) for r in log.real])
    gaps = np.array([r.output_tokens - 1.0 for r in log.real])
    begin, end = first_s[:wanted], last_s[:wanted]
    decoded = _during(first_s, last_s, gaps, begin, end)
    contexts = _during(first_s, last_s, gaps * (prompts + gaps / 2.0), begin, end)
    chunks = np.minimum(prompts, budget)

    def prefilled(amounts: Floats) -> Floats:  # its own prompt ended with its first token
        order = np.argsort(first_s)
        done = np.concatenate([[0.0], np.cumsum(amounts[order])])
        times = first_s[order]
        until, since = (np.searchsorted(times, at_s, side="right") for at_s in (end, begin))
        return done[until] - done[since]

    s = gpu.step
    parts = np.column_stack([
        gaps[:wanted] * (s.base_s + gpu.gap_s),
        decoded * s.low_token_s,
        prefilled(prompts) * s.high_token_s
        + prefilled(prompts * chunks) * s.prefill_sq_s
        + prefilled(prompts * (prompts - chunks) / 2.0) * s.prefill_prefix_s,
        contexts * s.context_token_s,
    ])  # fmt: skip
    rest_s = parts.sum(axis=1)
    unknown = np.full(wanted, math.nan)
    return Replay(unknown, rest_s, np.zeros((wanted, PARTS)), parts, 0.0)


def _during(first_s: Floats, last_s: Floats, amounts: Floats, begin: Floats, end: Floats) -> Floats:
    """How much of `amounts`, each spread evenly from a first to a last token, falls between."""
    took = np.maximum(last_s - first_s, 1e-9)
    times = np.concatenate([first_s, first_s + took])
    order = np.argsort(times)
    rates = np.cumsum(np.concatenate([amounts / took, -amounts / took])[order])
    times = times[order]
    done = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(times))])
    return np.interp(end, times, done) - np.interp(begin, times, done)
