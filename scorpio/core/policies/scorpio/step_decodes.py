"""Which decodes does the coming step have, and how much time do they leave?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.decodes import Decodes
from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.draft_choice import choose_drafts
from scorpio.core.slack import binding_target_s, decode_slack_s
from scorpio.core.snapshot import Snapshot
from scorpio.core.work import longest_step_s


@dataclass(frozen=True, slots=True)
class StepDecodes:
    """The decodes of the coming step, columns of shape [count].

    slo_s: between two steps, by TPOT SLO. slack_s: until the next token of each is due.
    context_tokens: of all together. alone_s: the step without any prefill. tightest_s: the batch's
    `tightest_target_s`, prefills included. value: of each promise. most_s: the longest step there
    may be. drafts: of each row of the batch, to be verified (None: the engine drafts nothing).
    tokens: of the decodes and their drafts. whole_s: `DraftChoice.whole_s`, inf without drafts.
    """

    count: int
    slo_s: FloatArray
    slack_s: FloatArray
    context_tokens: float
    alone_s: float
    tightest_s: float
    value: FloatArray
    most_s: float
    tokens: int
    drafts: IntArray | None = None
    whole_s: float = math.inf

    @property
    def draft_tokens(self) -> int:
        """Of `tokens`, those of drafts."""
        return self.tokens - self.count

    def all_drafting(self, model: StepModel, snapshot: Snapshot) -> StepDecodes:
        """The same where all drafts at hand are verified, as stock vLLM does."""
        if snapshot.drafts is None:
            return self
        tokens = self.count + int(snapshot.drafts.at_hand.sum())
        return replace(self, tokens=tokens, alone_s=model.step_s(tokens, self.context_tokens))


def step_decodes(
    model: StepModel,
    snapshot: Snapshot,
    start_s: float,
    given_up: BoolArray | None = None,
) -> StepDecodes:
    """A TPOT SLO beyond the longest step is as good as that.

    given_up: rows of the batch without a claim to their TPOT SLO.
    """
    running = snapshot.running
    decodes = Decodes.of(model, running)
    rows, alone_s = decodes.rows, decodes.alone_s
    target_s = binding_target_s(running, start_s)
    if given_up is not None:
        target_s = np.where(given_up, math.inf, target_s)
    most_s = longest_step_s(model, snapshot.limits, alone_s)
    slack_s = decode_slack_s(running, rows, target_s[rows], start_s)
    every_s, whole_s = snapshot.between_steps_s(target_s), math.inf
    tokens, verified = decodes.count, None
    choice = choose_drafts(model, snapshot, decodes, target_s[rows], most_s)
    if choice is not None:
        every_s[rows] = choice.every_s
        tokens, verified, whole_s = tokens + choice.tokens, choice.verified, choice.whole_s
        alone_s = model.step_s(tokens, decodes.context_tokens)
    return StepDecodes(
        decodes.count,
        np.minimum(every_s[rows], most_s),
        slack_s,
        decodes.context_tokens,
        alone_s,
        tightest_target_s(model, running.context_tokens, every_s),
        running.value[rows],
        max(most_s, alone_s),
        tokens,
        verified,
        whole_s,
    )


def tightest_target_s(model: StepModel, context_tokens: IntArray, target_s: FloatArray) -> float:
    """The tightest time between two steps that one of the batch needs and could have if it were
    alone; inf for none.

    One out of reach binds none: or a single answer that may not be refused would keep all others
    out for as long as it lasts.
    """
    alone_s = model.step_s(1, 0.0) + model.context_token_s * context_tokens
    return float(target_s[target_s >= alone_s].min(initial=math.inf))
