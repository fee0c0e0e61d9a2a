"""Which linear constraints does every schedule obey? The time-indexed rows of `bound`.

Notation and proof are in `bound`. Column meanings, all of GOOD requests only:
  steps[b], tokens[b], attention[b]: what is done in bucket b, a step that spans buckets counted
  in proportion to its time in each; good: i is good; first[f]: and its first token falls in f;
  share[b]: of its prompt, computed in b; part[B], work[B]: of its decode tokens, of its other
  attention work, done in block B of several buckets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from workloads.bound.demand import BoundEngine, Demand, StepCost
from workloads.bound.lp import LinearProgram

MS = 1e3  # rows of engine time are in milliseconds: coefficients near one


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets of bucket_s from time zero (the first arrival); blocks of `block` buckets."""

    bucket_s: float
    buckets: int
    block: int

    def bucket(self, at_s: float) -> int:
        """The bucket in which an instant falls (an edge belongs to the later one)."""
        return math.floor(min(at_s / self.bucket_s, self.buckets))


@dataclass(frozen=True, slots=True)
class Window:
    """One request on the grid. A first token in bucket f means decodes in f..last(f)."""

    request: int
    demand: Demand
    begin: int
    first_from: int
    first_to: int
    reach: int
    end: int

    def last(self, first: int) -> int:
        """The last bucket that a decode step can touch."""
        return min(first + self.reach, self.end)


def windows_on(grid: Grid, demands: Sequence[Demand]) -> list[Window]:
    """The windows of these requests, numbered as given; without those that reach beyond."""
    found = (_window(i, demand, grid) for i, demand in enumerate(demands))
    return [w for w in found if w is not None]


def _window(request: int, demand: Demand, grid: Grid) -> Window | None:
    """None when the request has its time beyond the grid: then nothing is asked of it."""
    reach = math.ceil(min(demand.decode_window_s / grid.bucket_s, 2.0 * grid.buckets))
    end = grid.bucket(demand.end_deadline_s)
    if end >= grid.buckets:
        return None
    first_from, first_to = grid.bucket(demand.first_token_s), grid.bucket(demand.ttft_deadline_s)
    begin = grid.bucket(demand.send_s)
    return Window(request, demand, begin, first_from, first_to, reach, end)


@dataclass(slots=True)
class Model:
    """The programme with the columns that cuts and reports need."""

    lp: LinearProgram
    grid: Grid
    window: dict[int, Window]
    steps: list[int] = field(default_factory=list)
    first: dict[int, list[int]] = field(default_factory=dict)
    capacity_rows: list[list[int]] = field(default_factory=list)


def build(windows: Sequence[Window], grid: Grid, cost: StepCost, limits: BoundEngine) -> Model:
    """The relaxation without cuts."""
    model = Model(LinearProgram(), grid, {w.request: w for w in windows})
    lp, buckets = model.lp, range(grid.buckets)
    most_steps = grid.bucket_s / (cost.fixed_s + cost.token_s)
    most_tokens = most_steps * min(limits.max_num_seqs, limits.max_num_batched_tokens)
    model.steps = [lp.variable(most_steps) for _ in buckets]
    tokens = [lp.variable(most_tokens) for _ in buckets]
    attention = [lp.variable(grid.bucket_s * MS) for _ in buckets]
    prompt: list[list[tuple[int, float]]] = [[] for _ in buckets]
    blocks = -(-grid.buckets // grid.block)
    decode: list[list[tuple[int, float]]] = [[] for _ in range(blocks)]
    extra: list[list[tuple[int, float]]] = [[] for _ in range(blocks)]
    kv: list[list[tuple[int, float]]] = [[] for _ in range(blocks)]
    for w in windows:
        _request(model, w, prompt, decode, extra, kv)
    for B in range(blocks):  # noqa: N806
        inside = range(B * grid.block, min((B + 1) * grid.block, grid.buckets))
        lp.zero(decode[B] + [(tokens[b], -1.0) for b in inside])
        lp.zero(extra[B] + [(attention[b], -1.0) for b in inside])
        lp.at_most(kv[B] + [(model.steps[b], -float(limits.kv_tokens)) for b in inside], 0.0)
    dense = (cost.dense_fixed_s, cost.dense_token_s)
    lines = list(dict.fromkeys([(cost.fixed_s, cost.token_s), dense]))
    for b in buckets:
        n, budget = model.steps[b], float(limits.max_num_batched_tokens)
        model.capacity_rows.append([])
        for fixed_s, token_s in lines:
            work = [(n, fixed_s * MS), (tokens[b], token_s * MS), (attention[b], 1.0)]
            work += [(column, count * token_s * MS) for column, count in prompt[b]]
            model.capacity_rows[b].append(lp.at_most(work, grid.bucket_s * MS))
        lp.at_most([(tokens[b], 1.0), (n, -budget), *prompt[b]], 0.0)
        seats = [(column, count / budget) for column, count in prompt[b]]
        lp.at_most([(tokens[b], 1.0), (n, -float(limits.max_num_seqs)), *seats], 0.0)
    return model


def _request(
    model: Model,
    w: Window,
    prompt: list[list[tuple[int, float]]],
    decode: list[list[tuple[int, float]]],
    extra: list[list[tuple[int, float]]],
    kv: list[list[tuple[int, float]]],
) -> None:
    lp, d, block = model.lp, w.demand, model.grid.block
    good = lp.variable(1.0, gain=1.0)
    first = {f: lp.variable(1.0) for f in range(w.first_from, w.first_to + 1)}
    share = {b: lp.variable(1.0) for b in range(w.begin, w.first_to + 1)}
    model.first[w.request] = list(first.values())
    lp.zero([(good, -1.0), *((v, 1.0) for v in first.values())])
    lp.zero([(good, -1.0), *((v, 1.0) for v in share.values())])
    for b in range(w.first_from, w.first_to):  # no first token before the whole prompt
        done = [(share[c], -1.0) for c in range(w.begin, b + 1)]
        lp.at_most([(first[f], 1.0) for f in range(w.first_from, b + 1)] + done, 0.0)
    for b, column in share.items():
        prompt[b].append((column, float(d.prefill_tokens)))
    work = {B: lp.variable(1.0) for B in range(w.begin // block, w.end // block + 1)}
    lp.zero([(good, -1.0), *((v, 1.0) for v in work.values())])
    for B, column in work.items():  # noqa: N806
        extra[B].append((column, d.more_attention_s * MS))
    if not d.decodes:
        return
    part = {B: lp.variable(1.0) for B in range(w.first_from // block, w.end // block + 1)}
    lp.zero([(good, -1.0), *((v, 1.0) for v in part.values())])
    so_far: list[tuple[int, float]] = []
    for B, column in part.items():  # noqa: N806
        decode[B].append((column, float(d.decodes)))
        extra[B].append((column, d.decodes * d.decode_attention_s * MS))
        kv[B].append((column, float(d.decodes * d.kv_tokens)))
        begin, end = max(w.first_from, B * block), min(w.end, (B + 1) * block - 1)
        steps = [(model.steps[b], -1.0) for b in range(begin, end + 1)]
        lp.at_most([(column, float(d.decodes)), *steps], 0.0)
        so_far.append((column, 1.0))
        if end < w.first_to:  # tokens follow the first one
            started = [(first[f], -1.0) for f in range(w.first_from, end + 1)]
            lp.at_most(so_far + started, 0.0)
        expired = [first[f] for f in first if w.last(f) <= end]
        if expired and end < w.end:  # and keep the TPOT SLO
            lp.at_most([(v, 1.0) for v in expired] + [(v, -1.0) for v, _ in so_far], 0.0)
