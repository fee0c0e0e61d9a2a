"""How many of its drafts shall each decode have verified in this step?

A draft costs a token of the step; if it is accepted it saves its request a step: a read of all its
context, and, where that request's TPOT SLO is the tightest, the fixed part of a step of the whole
batch. So each decode drafts as much as makes its tokens cheapest (more with a long context), and
those with tight SLOs as much as the pace of the batch, the time between two steps, asks of them.
That pace is the one at which the fixed part and all decodes take the least of the engine.

A step without prefill has room for drafts: there all are verified, as stock vLLM does (which also
keeps all rows alike, as its CUDA graphs want them), unless the step would then be too long, or
drafts cost more time than they bring tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.decodes import Decodes
from scorpio.core.drafts import counted_on
from scorpio.core.latency import StepModel
from scorpio.core.snapshot import Snapshot

_PACES = 6  # that are tried


@dataclass(frozen=True, slots=True)
class DraftChoice:
    """verified: of each row of the batch, at most, [B]. tokens: of those at hand, so many.
    every_s: how often each decode needs a step with them, [count]. whole_s: the step with all
    drafts and no prefill, where it brings more tokens per second; inf where it does not."""

    verified: IntArray
    tokens: int
    every_s: FloatArray
    whole_s: float


def choose_drafts(
    model: StepModel,
    snapshot: Snapshot,
    decodes: Decodes,
    target_s: FloatArray,
    most_s: float,
) -> DraftChoice | None:
    """None: the engine drafts nothing. target_s: TPOT SLOs of the decodes, [count]. most_s: the
    longest step there may be."""
    seen = snapshot.drafts
    if seen is None or not decodes.count:
        return None
    rows = decodes.rows
    yielded, at_hand = seen.tokens()[rows], seen.at_hand[rows]
    every_s = target_s[:, None] * counted_on(yielded)  # with 0, 1, ... drafts, [count, most + 1]
    context_s = model.context_token_s * snapshot.running.context_tokens[rows]
    # One that is out of reach even with all its drafts paces none.
    paces = every_s[:, -1] > decodes.alone_s
    least_s = float(np.min(target_s[paces], initial=most_s))
    longest_s = float(np.min(every_s[paces, -1], initial=most_s))
    asked_s = np.where(paces[:, None], every_s, np.inf)
    # Where steps are filled beyond the knee, a draft takes the place of a prompt's token.
    knee_s = model.step_s(model.knee_tokens, decodes.context_tokens)
    least = (True, math.inf)
    drafts = np.zeros(decodes.count, dtype=np.int64)
    for pace_s in np.linspace(least_s, longest_s, _PACES).tolist():
        filled = pace_s > knee_s or decodes.count > model.knee_tokens
        token_s = model.high_token_s if filled else model.low_token_s
        work_s = context_s[:, None] + token_s * np.arange(1.0, seen.most + 2.0)
        each_s = work_s / yielded  # of a token of the answer
        enough = asked_s >= pace_s
        enough[:, -1] = True
        tried = np.where(enough, each_s, np.inf).argmin(axis=1)
        chosen_s = each_s[np.arange(len(tried)), tried]
        spent = model.base_s / pace_s + float(chosen_s.sum()) / least_s
        tokens = decodes.count + int(np.minimum(tried, at_hand).sum())
        too_long = model.step_s(tokens, decodes.context_tokens) > pace_s
        if (too_long, spent) < least:
            least, drafts = (too_long, spent), tried
    row = np.arange(decodes.count)
    verified = np.zeros(len(snapshot.running), dtype=np.int64)
    verified[rows] = drafts
    tokens = int(np.minimum(drafts, at_hand).sum())
    some_s = model.step_s(decodes.count + tokens, decodes.context_tokens)
    all_s = model.step_s(decodes.count + int(at_hand.sum()), decodes.context_tokens)
    some = float(yielded[row, np.minimum(drafts, at_hand)].sum())
    every = float(yielded[row, np.minimum(at_hand, seen.most)].sum())
    whole_s = all_s if every * some_s >= some * all_s else math.inf
    return DraftChoice(verified, tokens, every_s[row, drafts], whole_s)
