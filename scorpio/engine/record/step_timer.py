"""How long did each step take? Output-to-output timing, right under async scheduling.

Under async scheduling `schedule()` runs a step ahead, so the gap between two calls says nothing.
A step lasts from the previous step's output (or from the arrival that woke an idle engine) to its
own output: what vLLM does between two steps, async scheduling or not, is part of the later one.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

from vllm.v1.core.sched.output import SchedulerOutput

from scorpio.core.snapshot import RunningBatch, StepSample
from scorpio.engine.view.drafts import verified

_FADE = 0.99  # of the longest step, for each one since


@dataclass(slots=True)
class _InFlight:
    output: SchedulerOutput
    scheduled_s: float
    sample: StepSample | None


class StepTimer:
    """Pairs each scheduled step with its output; FIFO, as vLLM delivers. together: the engine is
    one of ranks that step together (lockstep.py). Its steps last as long as the slowest rank's, and
    where it had nothing to compute it has computed with them, a dummy batch: that is no part of the
    step behind it."""

    def __init__(self, together: bool = False) -> None:
        self._together = together
        self._empty = False  # the last step that came back
        self._in_flight: deque[_InFlight] = deque()
        self._last_output_s = float("-inf")
        self._woken_s = float("-inf")
        self.longest_s = 0.0  # of late

    def interrupted(self) -> None:
        """The engine stood still: what is in flight says nothing about its speed."""
        for step in self._in_flight:
            step.sample = None

    def woken(self, now_s: float) -> None:
        """Call when a request reaches an engine that had none: the time before belongs to none."""
        self._woken_s = now_s

    def scheduled(self, output: SchedulerOutput, now_s: float, batch: RunningBatch | None) -> None:
        """Call after `schedule()`; `batch` is the picture the plan was made from, if any."""
        sample = None
        if batch is not None and output.total_num_scheduled_tokens > 0:
            sample = _features(output, batch)
        self._in_flight.append(_InFlight(output, now_s, sample))

    def executing_since_s(self) -> float:
        """When the oldest step in flight began to execute; NaN when there is none."""
        for step in self._in_flight:
            if step.output.total_num_scheduled_tokens:
                return max(self._last_output_s, step.scheduled_s)
        return math.nan

    def finished(self, output: SchedulerOutput, now_s: float) -> StepSample | None:
        """Call when the output arrives; None for steps that cannot be timed."""
        while self._in_flight:
            step = self._in_flight.popleft()
            if step.output is output:
                break
        else:
            return None
        woken = self._woken_s > self._last_output_s
        started_s = max(self._last_output_s, self._woken_s)
        if self._together and self._empty:
            started_s = max(started_s, step.scheduled_s)
        self._last_output_s = now_s
        self._empty = not output.total_num_scheduled_tokens
        if step.sample is None or not now_s > started_s:
            return None
        self.longest_s = max(now_s - started_s, _FADE * self.longest_s)
        return replace(step.sample, duration_s=now_s - started_s, woken=woken)


def _features(output: SchedulerOutput, batch: RunningBatch) -> StepSample:
    """Split the scheduled tokens into prefill chunks (few) and decodes (all the rest)."""
    scheduled = output.num_scheduled_tokens
    chunks: list[tuple[int, int]] = []  # (new tokens, KV prefix)
    for row in (~batch.is_decode).nonzero()[0].tolist():
        n = scheduled.get(batch.views[row].request_id, 0)
        if n:
            chunks.append((n, int(batch.context_tokens[row])))
    for new in output.scheduled_new_reqs:
        chunks.append((scheduled[new.req_id], new.num_computed_tokens))
    cached = output.scheduled_cached_reqs
    for row, request_id in enumerate(cached.req_ids):
        if request_id in cached.resumed_req_ids:
            chunks.append((scheduled[request_id], cached.num_computed_tokens[row]))
    decodes = len(scheduled) - len(chunks)
    context = int(batch.context_tokens[batch.is_decode].sum())
    total = int(batch.is_decode.sum())
    if decodes < total:  # some sat the step out: charge the mean
        context = round(context * decodes / total)
    return StepSample(
        prefill_tokens=sum(n for n, _ in chunks),
        prefill_sq_tokens=float(sum(n * n for n, _ in chunks)),
        prefill_prefix_products=float(sum(n * p for n, p in chunks)),
        num_decodes=decodes,
        decode_context_tokens=context,
        duration_s=0.0,
        draft_tokens=verified(output),
    )
