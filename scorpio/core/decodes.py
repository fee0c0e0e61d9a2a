"""Which rows of the batch decode in the coming step, and how long would they take alone?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import IntArray
from scorpio.core.latency import StepModel
from scorpio.core.snapshot import RunningBatch


@dataclass(frozen=True, slots=True)
class Decodes:
    """rows: of the running batch; all of it as a slice, so that columns are not copied.

    context_tokens: of all together. alone_s: a step of them, without any prefill.
    """

    rows: IntArray | slice
    count: int
    context_tokens: float
    alone_s: float

    @classmethod
    def of(cls, model: StepModel, running: RunningBatch) -> Decodes:
        """All that decode. Mostly these are all rows."""
        count = int(np.count_nonzero(running.is_decode))
        rows = slice(None) if count == len(running) else running.is_decode.nonzero()[0]
        context = float(running.context_tokens[rows].sum())
        return cls(rows, count, context, model.step_s(count, context))
