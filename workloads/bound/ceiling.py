"""How many of these requests could be good at best? A ceiling that no policy can pass.

The policy may know all arrivals, lengths and SLOs, chunk prompts at will, preempt and recompute,
skip decodes, idle, and serve in any order; every step takes what the step model says (plus the
gap), steps do not overlap, and a request gets at most one token out of a step. The bound is the
value of a linear programme that every schedule satisfies.

Proof. Take any schedule. Cut time into buckets b of length D; count a step s that spans several
buckets with weight phi_sb = its share of time inside b. Look only at the work for good requests:
the rest costs time >= 0 and the step model grows with every argument. A step that computes
something for request i runs after its arrival and ends by its last token, so:
 1. Time. The steps in b take sum_s phi_sb * T_s <= D, exactly, with no spill at the edges. Each
    T_s is above two lines in its tokens (`StepCost`); weighted by phi_sb they give one row each
    in N_b = sum_s phi_sb, tokens_b and attention_b. `bound_demand` proves the attention terms.
 2. Limits. tokens_b <= budget * N_b; requests in the steps of b <= max_num_seqs * N_b; contexts
    read by them <= KV pool * N_b. (What KV is held between steps is not charged.)
 3. First token. Exactly one bucket f holds it, f between arrival plus the least prefill time and
    the TTFT deadline; all prompt tokens are computed in buckets up to f.
 4. Decodes. m = output - 1 tokens come in m different steps, in buckets f..last(f), where last
    follows from TPOT: last token <= first token + m * slo. So in any set B of buckets i has at
    most N_B decodes, none before its first token, and all by last(f).
    A token out of recomputing a preempted context counts at the time of that recomputation, in
    proportion: it lies between the token before and itself, and costs more (`bound_demand`).
 5. Stars: steps in an interval against the requests that live in it (`bound_cuts`). They are the
    only rows that use the fact that a request is good or not, never in part.
All of this is linear in the columns, so the schedule is a feasible point with as many good
requests as its objective; the maximum, or any dual value (`bound_lp`), is at least that. Requests
sent in disjoint groups are bounded group by group: a group alone has at least as many good ones.

Noise. With step times multiplied by independent factors e of mean one (sigma of the logarithm),
not known in advance, and stalls that only add, row 1 holds up to sum_s (1 - e_s) T_s weighted by
the row's price, a martingale but for the steps cut by an edge between prices. So the bound holds
in expectation up to 2 sigma^2 T_max (variation of the prices), and for a single run with three
standard deviations sigma * sqrt(T_max * sum_b price_b^2 D) more: `noise_allowance`, a few requests.
A policy that foresees the noise of each step is not covered. Nor are: prefix hits on the output
of earlier turns, speculative decoding, and prefix caching unless `BoundEngine` says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scorpio.core.latency import StepModel
from workloads.bound.cuts import Separator, Star, add
from workloads.bound.demand import BoundEngine, Demand, StepCost, demands
from workloads.bound.lp import LpSolution
from workloads.bound.rows import MS, Grid, Model, build, windows_on
from workloads.request import WorkloadRequest

__all__ = ["BoundEngine", "BoundResult", "upper_bound"]

BLOCK_S = 2.0  # resolution of where decode work is done, within a request's window
MOST_BUCKETS = 700
GROUP_REQUESTS = 1_200
ROUNDS = (7, 4)  # solves on the coarse grid (twice the bucket), then on the fine one
CUTS_PER_ROUND = 2_500
LEAST_VIOLATION = 0.5  # of a cut worth adding, in steps
LEAST_GAIN = 5e-4  # of a round worth repeating, as a share of the requests
DEVIATIONS = 3.0
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class BoundResult:
    """good: the bound, floor(lp_value + noise_allowance), at most the number of requests.

    lp_value: the noiseless bound before rounding down. method: what proved it.
    """

    good: int
    lp_value: float
    noise_allowance: float
    solve_s: float
    method: str


def upper_bound(
    requests: Sequence[WorkloadRequest],
    step: StepModel,
    gap_s: float,
    limits: BoundEngine | None = None,
    *,
    noise_sigma: float = 0.0,
    bucket_s: float = 0.5,
    time_limit_s: float = 300.0,
) -> BoundResult:
    """Bound the number of good requests on this step model.

    Args:
        noise_sigma: of log step time; the twin's default is 0.03. See "Noise" above.
        bucket_s: grid; finer is tighter and slower. Any value gives a bound.
        time_limit_s: when it has passed the best bound found so far is returned; the least is
            the number of requests that are feasible on an idle engine.
    """
    if not (math.isfinite(bucket_s) and bucket_s > 0.0):
        raise ValueError(f"bucket_s must be finite and > 0, got {bucket_s!r}")
    if not 0.0 <= noise_sigma <= 1.0:
        raise ValueError(f"noise_sigma must be in [0, 1], got {noise_sigma!r}")
    started_s = time.monotonic()
    limits = limits or BoundEngine()
    able = sorted(demands(requests, step, gap_s, limits), key=lambda d: d.send_s)
    groups = math.ceil(len(able) / GROUP_REQUESTS)
    cost = StepCost.of(step, gap_s)
    longest_context = max((r.prompt_tokens + r.output_tokens for r in requests), default=0)
    longest_step_s = _longest_step_s(step, gap_s, limits, longest_context)
    value, allowance, method = 0.0, 0.0, "no request can be good" if not able else ""
    for k in range(groups):
        group = able[len(able) * k // groups : len(able) * (k + 1) // groups]
        left_s = time_limit_s - (time.monotonic() - started_s)
        search = _Search(group, cost, limits, noise_sigma, longest_step_s)
        search.run(bucket_s, time.monotonic() + left_s / (groups - k))
        value, allowance = value + search.value, allowance + search.allowance
        method = search.method if method in ("", search.method) else "mixed"
    good = min(math.floor(value + allowance + _ROUNDING), len(able))
    return BoundResult(good, value, allowance, time.monotonic() - started_s, method)


@dataclass(slots=True)
class _Search:
    """Solve, cut, refine; keeps the best bound seen."""

    able: Sequence[Demand]
    cost: StepCost
    limits: BoundEngine
    sigma: float
    longest_step_s: float
    value: float = field(init=False)
    allowance: float = 0.0
    method: str = "feasible on an idle engine"

    def __post_init__(self) -> None:
        self.value = float(len(self.able))

    def run(self, bucket_s: float, deadline_s: float) -> None:
        """Coarse grid first: it finds most cuts, and they are valid on the finer grid too."""
        stars: list[Star] = []
        for coarsening, rounds in zip((2, 1), ROUNDS, strict=True):
            grid = _grid(self.able, bucket_s, coarsening)
            windows = windows_on(grid, self.able)
            before = math.inf
            for _ in range(rounds):
                model = build(windows, grid, self.cost, self.limits)
                rows = [add(model, star) for star in stars]
                solution = model.lp.solve(deadline_s - time.monotonic())
                if solution is None:
                    return
                value = solution.value + len(self.able) - len(windows)
                self._keep(value, model, solution, f"LP, {grid.bucket_s:g} s, {len(stars)} cuts")
                least_gain = LEAST_GAIN * len(self.able)
                if self.value >= len(self.able) - least_gain:
                    return  # nothing that cuts could take away
                if before - value < least_gain:
                    break
                before = value
                prices = solution.row_prices
                found = Separator(model).find(solution.x, LEAST_VIOLATION)
                stars = [s for s, r in zip(stars, rows, strict=True) if prices[r] > _ROUNDING]
                stars += sorted(found, key=_worth)[:CUTS_PER_ROUND]

    def _keep(self, value: float, model: Model, solution: LpSolution, method: str) -> None:
        allowance = 0.0
        if self.sigma > 0.0:
            rows = np.asarray(model.capacity_rows)
            prices = solution.row_prices[rows].sum(axis=1) * MS  # requests per second
            variation = float(np.abs(np.diff(prices, prepend=0.0, append=0.0)).sum())
            variance = self.longest_step_s * model.grid.bucket_s * float(prices @ prices)
            allowance = DEVIATIONS * self.sigma * math.sqrt(variance)
            allowance += 2.0 * self.sigma**2 * self.longest_step_s * variation
        if value + allowance < self.value + self.allowance:
            self.value, self.allowance, self.method = value, allowance, method


def _worth(star: Star) -> float:
    return -star.violation / math.sqrt(star.end_s - star.begin_s)


def _grid(able: Sequence[Demand], bucket_s: float, coarsening: int) -> Grid:
    """Up to the last deadline, or to when all could be done one after the other: one that has time
    beyond that is counted as good. Few enough buckets for the solver."""
    ends_s = [d.end_deadline_s for d in able if math.isfinite(d.end_deadline_s)]
    serial_s = max(d.send_s for d in able) + sum(d.alone_s for d in able)
    horizon_s = min(max(ends_s, default=0.0), serial_s)
    bucket_s = coarsening * max(bucket_s, horizon_s / MOST_BUCKETS)
    buckets = math.floor(horizon_s / bucket_s) + 1
    return Grid(bucket_s, buckets, max(1, round(BLOCK_S / bucket_s)))


def _longest_step_s(step: StepModel, gap_s: float, limits: BoundEngine, context: int) -> float:
    """No step takes longer than this: a full budget, every seat reading the longest context."""
    budget, seats = float(limits.max_num_batched_tokens), float(limits.max_num_seqs)
    read = min(float(limits.kv_tokens), seats * context)
    return gap_s + step.step_s(0.0, read, budget, budget * budget, budget * context)
