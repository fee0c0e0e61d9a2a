"""Which traffic do days of rates mean? Work in each tick for the coarse model, requests for the
twin; the same draws behind both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scorpio.core.arrays import FloatArray
from scorpio.core.demand import Level
from scorpio.core.latency import StepModel
from scorpio.core.routing.carried import FluidKept
from scorpio.core.routing.fleet_view import work_s
from scorpio.studies.study import engine
from scorpio.twin.run import policy_profile
from workloads.errors import WorkloadError
from workloads.mixes import Mix, get_mix
from workloads.named import load_workload
from workloads.request import WorkloadRequest
from workloads.synthetic.from_rates import counts, requests_of
from workloads.traces.rates import TICK_S as WHOLE_S
from workloads.traces.rates import (
    ClientTokens,
    Rates,
    is_rates,
    pooled,
    read_client_tokens,
    read_rates,
)
from workloads.traces.reading import AS_IT_SAYS, Reading

TICK_S = float(WHOLE_S)
MOST_TOKENS = 8_192  # of a prompt and its answer together
LENGTHS_OF = "azure-conv-synth"  # where nothing is said of token lengths
_QUANTILES = 200
_FEW = 10  # requests of a window; from fewer it is not told how uneven their gaps are
_WINDOWS_S = (600.0, 60.0)  # of a trace of requests; the shorter one where it lasts less than a day


@dataclass(frozen=True, slots=True)
class DaysKey:
    """source: a file of rates, or a trace by name. tokens: of each client, beside rates. gpu: a
    name or a latency.json. rows, reading: of a trace."""

    source: str
    tokens: str | None
    mix: str
    gpu: str
    rows: str | None = None
    reading: Reading = AS_IT_SAYS

    @property
    def label(self) -> str:
        """For people."""
        return f"{Path(self.source).name}, {self.mix}, {self.gpu}"

    def days(self) -> Days:
        """Read. Raises WorkloadError, and TraceError naming file and line."""
        return _days(self)


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """rates: as the file says, not scaled. tokens: of the clients that are known; `unknown` stands
    for the others. step: of the GPU. work_s: engine seconds of a mean request of each client."""

    rates: Rates
    tokens: dict[str, ClientTokens]
    unknown: ClientTokens
    mix: Mix
    step: StepModel
    work_s: FloatArray

    @property
    def window_load(self) -> FloatArray:
        """Engine seconds per second that each window asks for, [window]."""
        found: FloatArray = self.work_s @ self.rates.rate_rps
        return found

    def sent(self, factor: float, seed: int) -> NDArray[np.int64]:
        """Requests of each client in each tick, [client, tick]. factor: of the rates."""
        return counts(self.rates.scaled(factor), TICK_S, seed)

    def load(self, sent: NDArray[np.int64]) -> FloatArray:
        """Engine seconds per second in each tick, [tick]."""
        found: FloatArray = self.work_s @ sent / TICK_S
        return found

    def requests(self, sent: NDArray[np.int64], seed: int) -> list[WorkloadRequest]:
        """Those behind `sent`."""
        rates, mix = self.rates, self.mix
        tokens = (self.tokens, self.unknown)
        return requests_of(rates, sent, TICK_S, *tokens, mix, seed, MOST_TOKENS)

    def typical(self, load: float, ticks: int, seed: int) -> list[WorkloadRequest]:
        """Requests of all clients at their mean rates, asking for `load` engine seconds per
        second."""
        mean = self.rates.rate_rps.mean(axis=1)
        factor = load / float(self.work_s @ mean)
        cv = np.median(self.rates.gap_cv, axis=1)
        even = Rates(self.rates.clients, ticks * TICK_S, mean[:, None] * factor, cv[:, None])
        return self.requests(counts(even, TICK_S, seed), seed)

    def works(self, requests: list[WorkloadRequest]) -> FloatArray:
        """Engine seconds of each."""
        sizes = [(r.prompt_tokens, r.output_tokens) for r in requests]
        prompts, answers = np.array(sizes, dtype=float).reshape(-1, 2).T
        return _work_s(self.step, prompts, answers)

    def fluid(self) -> FluidKept:
        """What a server without a measured curve goes by."""
        total = sum(entry.share for entry in self.mix.classes)
        demand: dict[float, Level] = {}
        for entry in self.mix.classes:
            tpot_s, share = entry.slo().tpot_s, entry.share / total
            before = demand[tpot_s].per_s if tpot_s in demand else 0.0
            demand[tpot_s] = Level.of([1.0], before + share)
        return FluidKept(demand, self.step.base_s)


@lru_cache(maxsize=2)
def _days(key: DaysKey) -> Days:
    path = Path(key.source)
    if is_rates(path):
        rates = read_rates(path)
        tokens = {} if key.tokens is None else read_client_tokens(Path(key.tokens))
        unknown = pooled(rates, tokens) if tokens else _lengths(load_workload(LENGTHS_OF, "0:2000"))
    elif key.tokens is not None:
        raise WorkloadError(f"{key.source}: token lengths of clients are for files of rates")
    else:
        requests = load_workload(key.source, key.rows, mix=key.mix, reading=key.reading)
        rates, tokens, unknown = _rates_of(key.source, requests), {}, _lengths(requests)
    config = engine(key.gpu)
    step = policy_profile(config, 0).step
    work_s = np.array([_mean_work_s(step, tokens.get(name, unknown)) for name in rates.clients])
    return Days(rates, tokens, unknown, get_mix(key.mix), step, work_s)


def _work_s(step: StepModel, prompts: FloatArray, answers: FloatArray) -> FloatArray:
    """The length of the answer known."""
    per_token_s = step.high_token_s, step.low_token_s, step.context_token_s
    return work_s(per_token_s, prompts, prompts, answers)


def _mean_work_s(step: StepModel, tokens: ClientTokens) -> float:
    rng = np.random.default_rng(0)
    at = (np.arange(20 * _QUANTILES) + 0.5) / (20 * _QUANTILES)
    prompts = np.minimum(tokens.drawn(rng.permutation(at), "prompt"), MOST_TOKENS - 1)
    answers = np.minimum(tokens.drawn(at, "output"), MOST_TOKENS - prompts)
    return float(_work_s(step, prompts, answers).mean())


def _lengths(requests: list[WorkloadRequest]) -> ClientTokens:
    at = np.linspace(0.0, 1.0, _QUANTILES + 1)
    sizes = np.array([(r.prompt_tokens, r.output_tokens) for r in requests], dtype=np.float64)
    prompt, output = np.quantile(sizes, at, axis=0).T.astype(np.float64)
    return ClientTokens(prompt, output)


def _rates_of(name: str, requests: list[WorkloadRequest]) -> Rates:
    """A trace of requests as rates of one client."""
    times = np.array([r.send_s for r in requests])
    window_s = next((w for w in _WINDOWS_S if times[-1] >= 144 * w), _WINDOWS_S[-1])
    count = int(times[-1] // window_s)
    if count < 2:
        raise WorkloadError(f"{name}: {times[-1]:.0f} s are no days of load: 120 s or more")
    rate = np.histogram(times, bins=count, range=(0.0, count * window_s))[0] / window_s
    ends = times.searchsorted(np.arange(count + 1) * window_s)
    cv = [_gap_cv(times[begin:end]) for begin, end in pairwise(ends)]
    return Rates((name,), window_s, rate[None, :], np.array([cv]))


def _gap_cv(times: FloatArray) -> float:
    """How uneven gaps are inside a window: a pause between windows is a matter of their rates."""
    gaps = np.diff(times)
    if len(times) < _FEW or not gaps.any():
        return 1.0
    return float(gaps.std() / gaps.mean())
