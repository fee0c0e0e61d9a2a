"""Which decodes does the coming step have, and how much time do they leave?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.batch_growth import tightest_pace_s
from scorpio.core.latency import StepModel
from scorpio.core.slack import binding_pace_s, decode_slack_s
from scorpio.core.views import FloatArray, Snapshot


@dataclass(frozen=True, slots=True)
class StepDecodes:
    """The decodes of the coming step, columns of shape [count].

    slo_s: TPOT. slack_s: until the next token of each is due. context_tokens: of all together.
    alone_s: the step without any prefill. tightest_s: the batch's `tightest_pace_s`, prefills
    included. value: of each promise.
    """

    count: int
    slo_s: FloatArray
    slack_s: FloatArray
    context_tokens: float
    alone_s: float
    tightest_s: float
    value: FloatArray


def step_decodes(
    model: StepModel, snapshot: Snapshot, start_s: float, most_s: float
) -> StepDecodes:
    """No step is longer than `most_s`, so a TPOT SLO beyond it is as good as that."""
    running = snapshot.running
    count = int(np.count_nonzero(running.is_decode))
    # Mostly all rows are decodes: then columns are taken as they are, not copied.
    rows = slice(None) if count == len(running) else running.is_decode.nonzero()[0]
    context = float(running.context_tokens[rows].sum())
    pace_s = binding_pace_s(running, start_s)
    return StepDecodes(
        count,
        np.minimum(pace_s[rows], most_s),
        decode_slack_s(running, rows, pace_s[rows], start_s),
        context,
        model.step_s(count, context),
        tightest_pace_s(model, running.context_tokens, pace_s),
        running.value[rows],
    )
