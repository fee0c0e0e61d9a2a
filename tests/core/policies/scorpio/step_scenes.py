"""A step context by hand: what the parts of `scorpio` are tested on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.step_decodes import step_decodes
from scorpio.core.snapshot import Snapshot

START_S = 100.0


def step_of(
    model: StepModel, seen: Snapshot, start_s: float = START_S, mean_tokens: float | None = None,
    tightest_s: float | None = None, options: ScorpioOptions | None = None, **facts: Any
) -> StepContext:  # fmt: skip
    """Nothing was learned and no request has a deadline, unless said otherwise."""
    options, lengths = options or ScorpioOptions(), LengthBelief(seen.limits.max_num_seqs)
    if mean_tokens is not None:
        lengths.mean_tokens = mean_tokens
    decodes = step_decodes(model, seen, start_s)
    if tightest_s is not None:
        decodes = replace(decodes, tightest_s=tightest_s)
    known = {"prefill_share": 0.0, "least_target_s": 0.0, "promised": False} | facts
    return StepContext(options, model, seen, start_s, start_s, decodes, lengths, **known)
