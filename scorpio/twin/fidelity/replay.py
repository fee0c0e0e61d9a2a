"""What does the twin make of a log, and of which steps were its times made?

The second is what makes a fit cheap: one replay tells how each time would move with each part of
the step model, so that no replay is spent on trying one number.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorpio.core.latency import LatencyProfile, decode_from_step, prefill_from_step
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.engine.event_log import EventLog
from scorpio.twin.engine.ledger import Entry
from scorpio.twin.engine.runner import StepWork
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.gpu.noise import NO_NOISE
from scorpio.twin.gpu.step_models import GpuModel
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.run import run_twin, twin_loop
from scorpio.twin.translate import arrivals
from workloads.results.records import RequestRecord

Floats = NDArray[np.float64]
PARTS = 4  # as in `Factors`
_STEP_COST = 40  # a step of the twin takes this machine as long as so many of its tokens
_MOST_REQUESTS = 20_000  # of a log; more than a bounded replay comes to
_LEAST_ENDED, _LONGER = 20, 10.0  # with fewer a replay goes on, at most so many times as long
_LOOK_S = 1.0  # virtual time between two looks at how far it is


@dataclass(frozen=True, slots=True)
class Replay:
    """The first requests of a log, as far as the twin came: seconds, NaN where it did not.

    to_first, to_last: (requests, PARTS) of what TTFT, and the time from first to last token, are
    made of, in seconds; a step counts in full, also where most of it was for others.
    """

    ttft_s: Floats
    rest_s: Floats
    to_first: Floats
    to_last: Floats
    mean_step_s: float


def replay_log(log: EngineLog, gpu: GpuModel, spec: EngineSpec) -> list[RequestRecord]:
    """The twin's records for the log's arrivals under stock vLLM, without noise."""
    return run_twin(_config(log, gpu, spec), log.requests, "fcfs").records


def replay_steps(
    log: EngineLog, gpu: GpuModel, spec: EngineSpec, wanted: int, most_cost: float
) -> Replay:
    """Until the first `wanted` requests have ended, or so many tokens have been decoded.

    most_cost: bounds the time that this takes here, whatever the log's length. It counts steps
        and tokens, not seconds: what is fitted is the same on every machine. Where answers are so
        long that fewer than twenty have ended by then, it is ten times as much.
    """
    config = _config(log, gpu, spec)
    assert config.profile is not None
    loop = twin_loop(config, log.requests, "fcfs", 0, config.profile)
    loop.log = seen = _Steps()
    loop.expect(arrivals(log.requests[:_MOST_REQUESTS], config, 0))
    entries = loop.ledger.entries
    first = log.requests[: min(wanted, _MOST_REQUESTS)]
    sent_s = [r.send_s for r in log.requests[:_MOST_REQUESTS]]
    until_s = sent_s[0]
    ended = 0
    while seen.cost < most_cost * (_LONGER if ended < _LEAST_ENDED else 1.0):
        until_s = max(until_s, loop.clock.now_s)
        if not loop.ledger.live:  # over a pause in one go, however long it is
            until_s = sent_s[min(bisect_left(sent_s, until_s), len(sent_s) - 1)]
        until_s += _LOOK_S
        loop.advance(until_s)
        ended = sum(
            e.end is not None for e in entries.values() if e.arrival.index <= first[-1].index
        )
        if ended == len(first):
            break
    by_index = {entry.arrival.index: entry for entry in entries.values()}
    return _replay(seen.works, sent_s[: len(first)], [by_index.get(r.index) for r in first], gpu)


class _Steps(EventLog):
    """What each step was made of, in place of a digest."""

    def __init__(self) -> None:
        super().__init__()
        self.works: list[tuple[float, StepWork]] = []
        self.cost = 0.0

    def step(self, now_s: float, work: StepWork, preempted: Collection[str]) -> None:
        self.works.append((now_s, work))
        self.cost += _STEP_COST + work.decodes


def _config(log: EngineLog, gpu: GpuModel, spec: EngineSpec) -> TwinConfig:
    step = gpu.step  # stock vLLM asks no profile: any will do, and fitting one takes its time
    profile = LatencyProfile(decode_from_step(step), prefill_from_step(step), step)
    return TwinConfig(gpu, log.spec(spec), NO_NOISE, LengthHint(None), profile)


def _replay(
    works: Sequence[tuple[float, StepWork]],
    sent_s: Sequence[float],
    entries: Sequence[Entry | None],
    gpu: GpuModel,
) -> Replay:
    begin, made = [], []
    free_s = 0.0
    for now_s, work in works:
        if parts := _parts(work, gpu):
            begin.append(max(now_s, free_s))
            free_s = begin[-1] + math.fsum(parts)
            made.append(parts)
    parts_s = np.array(made).reshape(-1, PARTS)
    starts = np.array(begin)
    took = parts_s.sum(axis=1)
    # Work done so far, at the begin and the end of each step; it rests between them.
    times = np.column_stack([starts, starts + took]).ravel()
    ends = np.cumsum(parts_s, axis=0)
    done = np.stack([ends - parts_s, ends], axis=1).reshape(-1, PARTS)

    def by(at_s: Floats) -> Floats:
        return np.column_stack([np.interp(at_s, times, done[:, k]) for k in range(PARTS)])

    known = [e if e and e.tokens else None for e in entries]
    first_s = np.array([e.first_s if e else math.nan for e in known])
    last_s = np.array([e.last_s if e and e.end else math.nan for e in known])
    sent = np.array(sent_s)
    return Replay(
        first_s - sent, last_s - first_s, by(first_s) - by(sent), by(last_s) - by(first_s),
        float(took.mean()) if len(took) else 0.0,
    )  # fmt: skip


def _parts(work: StepWork, gpu: GpuModel) -> tuple[float, ...]:
    """What a step takes, by part of the model; nothing where it computes nothing."""
    s, tokens = gpu.step, work.decodes + work.prefill_tokens
    if not tokens:
        return ()
    return (
        s.base_s + gpu.gap_s,
        s.low_token_s * min(tokens, s.knee_tokens),
        s.high_token_s * max(tokens - s.knee_tokens, 0.0)
        + s.prefill_sq_s * work.prefill_sq_tokens
        + s.prefill_prefix_s * work.prefill_prefix_products,
        s.context_token_s * work.decode_context_tokens,
    )
