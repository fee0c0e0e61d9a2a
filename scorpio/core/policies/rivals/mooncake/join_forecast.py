"""When would this prompt be done, and how fast would its batch decode? Forecasts at arrival.

The prefill queue ahead is worked off in full chunks with the decodes riding along. By the time a
newcomer joins, the running requests whose predicted outputs are finished have left, and all those
queued before it has joined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.latency import StepModel
from scorpio.core.prefill_share import PrefillShare
from scorpio.core.request import RequestView
from scorpio.core.snapshot import EngineLimits, RunningBatch, StepSample

# A request that has outlived its prediction is taken to have this part of its output still ahead.
_OUTLIVED = 0.25


@dataclass(frozen=True, slots=True)
class Queue:
    """The prefill work ahead of a newcomer, prefix-cache hits left out.

    sq_tokens: sum of squares. cached_tokens: the hits, which are context all the same;
    prefix_products: sum of each one's work times its hits.
    """

    requests: int = 0
    tokens: float = 0.0
    sq_tokens: float = 0.0
    cached_tokens: float = 0.0
    prefix_products: float = 0.0

    def plus(self, tokens: float, cached_tokens: float = 0.0) -> Queue:
        """One more behind it."""
        return Queue(
            self.requests + 1,
            self.tokens + tokens,
            self.sq_tokens + tokens**2,
            self.cached_tokens + cached_tokens,
            self.prefix_products + tokens * cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Running requests: decodes, their remaining predicted time, and the context there is."""

    size: int
    decodes: int
    context_tokens: FloatArray  # of the decodes
    partial_context_tokens: float  # of unfinished prefills; what they still compute is queued
    step_s: float  # of the decodes alone
    leaves_after_s: FloatArray  # of the decodes


@dataclass(frozen=True, slots=True)
class JoinForecast:
    """ttft_s counts from now; tpot_s is the mean step the newcomer would see."""

    ttft_s: float
    tpot_s: float


class Forecaster:
    """State: predicted output per running slot, and the measured share of prefill in the time."""

    def __init__(self, model: StepModel, limits: EngineLimits) -> None:
        self._model, self._limits = model, limits
        # Until it is known: as much as any request can produce.
        self._expected = np.full(limits.max_num_seqs, float(limits.max_model_len))
        self._prefill_share = PrefillShare()

    def observe(self, sample: StepSample) -> None:
        """Book a step."""
        decodes_s = self._model.step_s(sample.decode_tokens, sample.decode_context_tokens)
        self._prefill_share.observe(sample, decodes_s, self._model.sample_s(sample))

    def track(self, running: RunningBatch) -> None:
        """Note the predicted output of those that have joined; call in each step."""
        for row in np.flatnonzero(running.joined).tolist():
            self._expected[running.slot[row]] = running.views[row].expected_output_tokens

    def batch(self, running: RunningBatch) -> Batch:
        """The running requests as the forecasts need them."""
        decode = running.is_decode
        context = running.context_tokens[decode].astype(np.float64)
        produced = running.output_tokens[decode].astype(np.float64)
        step_s = self._model.step_s(len(context), float(context.sum()))
        left = np.maximum(
            self._expected[running.slot[decode]] - produced, _OUTLIVED * produced + 1.0
        )
        partial = running.context_tokens[~decode]
        leaves_s = left * (step_s / (1.0 - self._prefill_share.value))
        return Batch(len(running), len(context), context, float(partial.sum()), step_s, leaves_s)

    def forecast(self, view: RequestView, queue: Queue, batch: Batch) -> JoinForecast:
        """`queue`: everything prefilled before `view`, and `view` itself."""
        ttft_s = self._prefill_time_s(queue, batch.decodes, batch.step_s)
        missing_seats = batch.size + queue.requests - self._limits.max_num_seqs
        if missing_seats > 0:
            ttft_s = max(ttft_s, _nth_s(batch.leaves_after_s, missing_seats))
        stay = batch.leaves_after_s > ttft_s
        partial = batch.size - batch.decodes
        size = int(np.count_nonzero(stay)) + partial + queue.requests
        context = float(batch.context_tokens[stay].sum())
        context += batch.partial_context_tokens + queue.tokens + view.expected_output_tokens / 2.0
        context += queue.cached_tokens
        step_s = self._model.step_s(size, context)
        return JoinForecast(ttft_s, step_s / (1.0 - self._prefill_share.value))

    def _prefill_time_s(self, queue: Queue, decodes: int, step_s: float) -> float:
        m = self._model
        chunk = max(self._limits.token_budget - decodes, 1)
        steps = max(queue.tokens / chunk, 1.0)
        attention_s = m.prefill_sq_s * queue.sq_tokens + m.prefill_prefix_s * queue.prefix_products
        return steps * step_s + m.high_token_s * queue.tokens + attention_s


def _nth_s(leaves_after_s: FloatArray, n: int) -> float:
    """When the n-th of them has left; those beyond the last are not known and count as the last."""
    if not len(leaves_after_s):
        return 0.0
    n = min(n, len(leaves_after_s))
    return float(np.partition(leaves_after_s, n - 1)[n - 1])
