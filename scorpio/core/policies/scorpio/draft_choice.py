"""How many of its drafts shall each decode have verified in this step?

A draft costs a token of the step; if it is accepted it saves its request a step: a read of all its
context, and, where that request's TPOT SLO is the tightest, the fixed part of a step of the whole
batch. So each decode drafts as much as makes its tokens cheapest (more with a long context), and
those with tight SLOs as much as the pace of the batch, the time between two steps, asks of them.
That pace is the one at which the fixed part and all decodes take the least of the engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.decodes import Decodes
from scorpio.core.latency import StepModel
from scorpio.core.snapshot import Snapshot

_PACES = 6  # that are tried
_SURE = 0.75  # of the tokens that drafts bring: which step brings them is chance, and answers end


@dataclass(frozen=True, slots=True)
class DraftChoice:
    """verified: of each row, at most, [B]. tokens: verified in this step, of those at hand.
    every_s: how often each decode needs a step at the pace chosen, [count]."""

    verified: IntArray
    tokens: int
    every_s: FloatArray


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
    yielded = seen.tokens()[rows]  # with 0, 1, ... drafts, [count, most + 1]
    every_s = target_s[:, None] * (1.0 + _SURE * (yielded - 1.0))
    # One that is out of reach even with all its drafts paces none.
    helpable = every_s[:, -1] > decodes.alone_s
    least_s = float(np.min(target_s[helpable], initial=most_s))
    longest_s = float(np.min(every_s[helpable, -1], initial=most_s))
    every_s[~helpable] = np.inf
    context_s = model.context_token_s * snapshot.running.context_tokens[rows]
    # Where steps are filled beyond the knee, a draft takes the place of a prompt's token.
    knee_s = model.step_s(model.knee_tokens, decodes.context_tokens)
    best = _Pace(math.inf, np.zeros(decodes.count, dtype=np.int64))
    for pace_s in np.linspace(least_s, longest_s, _PACES).tolist():
        token_s = model.high_token_s if pace_s > knee_s else model.low_token_s
        work_s = context_s[:, None] + token_s * np.arange(1.0, seen.most + 2.0)
        each_s = work_s / yielded  # of a token of the answer
        enough = every_s >= pace_s
        enough[:, -1] = True
        drafts = np.where(enough, each_s, np.inf).argmin(axis=1)
        decode_s = float(each_s[np.arange(len(drafts)), drafts].sum()) / least_s
        pace = _Pace(model.base_s / pace_s + decode_s, drafts)
        best = min(best, pace, key=lambda one: one.spent)
    paced_s = every_s[np.arange(decodes.count), best.drafts]
    return _chosen(snapshot, decodes, best.drafts, seen.at_hand[rows], paced_s)


class _Pace(NamedTuple):
    """spent: of the engine's time, on the fixed part of steps and on decodes. drafts: [count]."""

    spent: float
    drafts: IntArray


def _chosen(
    snapshot: Snapshot, decodes: Decodes, wanted: IntArray, at_hand: IntArray, every_s: FloatArray
) -> DraftChoice:
    verified = np.zeros(len(snapshot.running), dtype=np.int64)
    verified[decodes.rows] = wanted
    return DraftChoice(verified, int(np.minimum(wanted, at_hand).sum()), every_s)
