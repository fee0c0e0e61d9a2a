"""Which GPU model explains a real engine's log? `scorpio calibrate`.

Each part of a step's time has a factor (`Factors`). A replay of the first part of the log by the
twin tells, for each request, of which steps its times were made, so how its error would shrink
with each factor: a handful of replays, each better than the last, find all of them (Gauss-Newton).
What the log does not tell stays as the nearest built-in model has it: the factors may move together
freely, and apart only as far as the log insists. The rest of the log is for the examination.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.fidelity.first_look import first_look
from scorpio.twin.fidelity.replay import PARTS, Floats, Replay, replay_steps
from scorpio.twin.gpu.scaling import Factors, Free, scaled
from scorpio.twin.gpu.step_models import OF_TABLES, GpuModel
from workloads.errors import WorkloadError

_REPLAYS = 8  # of a base, at most
_LOOKS = 30  # the same without replays
_MOST_COST = 200_000.0  # of a replay: two seconds, whatever the log's length
_DONE = 0.01  # a move of a tenth of the error bars, squared
_LONGEST_MOVE = 1.0  # of a log factor in one go: further off, the replay says little
_OUTLIER = 0.05  # errors beyond it count by their size, not its square: a preemption elsewhere
_TTFT_WEIGHT = 0.3  # a queue adds up all errors of the steps before it
_FULL_TOKENS = 20  # a TPOT over fewer gaps counts less: a single step may stand in it
# As if the fitted part were so many requests, each at least 2 % off for reasons of its own: the
# requests of a log share their steps, so more of them do not tell as much more.
_WORTH, _OWN_ERROR = 30.0, 0.02
_TOGETHER, _APART = 1.5, 0.3  # how far factors may be from 1 (in log), all of them and each
Tell = Callable[[int, int, str], None]  # (replays done, at most, what came of the last)


class _Progress:
    """Counts replays of the log."""

    def __init__(self, tell: Tell | None, most: int) -> None:
        self._tell, self._done, self._most = tell, 0, most

    def more(self, replays: int) -> None:
        self._most += replays

    def step(self, what: str) -> None:
        self._done += 1
        if self._tell is not None:
            self._tell(self._done, self._most, what)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted model and how it was found.

    fitted_requests: the first part of the log, of which nothing is used for the examination.
    """

    gpu: GpuModel
    base: str
    free: Free
    factors: Factors
    fitted_requests: int


@dataclass(frozen=True, slots=True)
class _Errors:
    """Log errors of a replay, what each is worth, and how they fall with each log factor. tpot:
    the typical one; NaN where no answer has ended."""

    errors: Floats
    weights: Floats
    slopes: Floats
    tpot: float

    def loss(self) -> float:
        """Huber's: squared, and linear for outliers."""
        size = np.abs(self.errors)
        bent = np.where(size < _OUTLIER, size**2, _OUTLIER * (2.0 * size - _OUTLIER))
        return float(self.weights @ bent)


@dataclass(frozen=True, slots=True)
class _Fit:
    logs: Floats
    errors: _Errors
    loss: float


def calibrate(
    log: EngineLog,
    spec: EngineSpec,
    bases: Sequence[GpuModel] = OF_TABLES,
    free: Free = "auto",
    fitted_share: float = 1.0 / 3.0,
    tell: Tell | None = None,
) -> Calibration:
    """The nearest of `bases` after fitting: its gap alone, or all factors (`speed`, `auto`).

    tell: how far it is, a replay at a time.

    Raises:
        ValueError: a share out of (0, 1], or no base.
        WorkloadError: the first part has no time between two tokens.
    """
    if not 0.0 < fitted_share <= 1.0 or not bases:
        raise ValueError("need 0 < fitted_share <= 1 and at least one base model")
    n = max(1, round(len(log.requests) * fitted_share))
    if not any(r.tpot_s for r in log.real[:n]):
        raise WorkloadError(
            f"{log.name}: none of its first {n} requests has a time between two tokens, and they"
            " are what is fitted"
        )
    fitted: Free = "gap" if free == "gap" else "speed"
    made = _with_gap if fitted == "gap" else _with_factors
    prior = _prior([0] if fitted == "gap" else range(PARTS))
    told = _Progress(tell, _REPLAYS)
    budget = log.spec(spec).max_num_batched_tokens

    def looked(base: GpuModel) -> _Fit:
        def errors(logs: Floats) -> _Errors:
            return _errors(log, first_look(log, made(base, logs), n, budget))

        return _fit(errors, prior, np.zeros(PARTS), _LOOKS)

    def replayed(base: GpuModel, begin: Floats) -> _Fit:
        def errors(logs: Floats) -> _Errors:
            found = _errors(log, replay_steps(log, made(base, logs), spec, n, _MOST_COST))
            told.step(f"{base.name}, error {100.0 * found.tpot:.1f} %")
            return found

        return _fit(errors, prior, begin, _REPLAYS)

    looks = [(looked(base), base) for base in bases]
    (look, start), *others = sorted(looks, key=lambda pair: pair[0].loss)
    best = replayed(start, look.logs)
    if best.errors.tpot > _OWN_ERROR and others:  # a look is rough: the next may be nearer
        told.more(_REPLAYS)
        look, other = others[0]
        second = replayed(other, look.logs)
        best, start = min((best, start), (second, other), key=lambda pair: pair[0].loss)
    best = look if math.isnan(best.errors.tpot) else best  # no answer has ended: a look knows more
    gpu = replace(
        made(start, best.logs),
        name=f"{log.name}-calibrated",
        source=f"{start.name} ({start.source}), {fitted} fitted to {n} requests of {log.name}",
    )
    factors = Factors() if fitted == "gap" else _factors(best.logs)
    return Calibration(gpu, start.name, fitted, factors, n)


def _factors(logs: Floats) -> Factors:
    return Factors(*(math.exp(float(x)) for x in logs))


def _with_factors(base: GpuModel, logs: Floats) -> GpuModel:
    """The gap is fixed time like the rest of it: one number, and no telling them apart."""
    fixed = replace(base.step, base_s=base.step.base_s + base.gap_s)
    return scaled(replace(base, step=fixed, gap_s=0.0), _factors(logs))


def _with_gap(base: GpuModel, logs: Floats) -> GpuModel:
    """The same GPU; all that is fixed in its steps and not its own is the engine's."""
    fixed_s = (base.step.base_s + base.gap_s) * math.exp(float(logs[0]))
    return base.with_gap(max(0.0, fixed_s - base.step.base_s))


def _prior(free: Iterable[int]) -> Floats:
    """Inverse covariance of the log factors; those that are not free are held at 0."""
    held = np.full(PARTS, 1e12)
    held[list(free)] = 0.0
    covariance = _TOGETHER**2 * np.ones((PARTS, PARTS)) + _APART**2 * np.eye(PARTS)
    return np.linalg.inv(covariance) + np.diag(held)


def _fit(errors: Callable[[Floats], _Errors], prior: Floats, start: Floats, replays: int) -> _Fit:
    """The log factors with the least loss. A move that made it worse is tried again, shorter."""
    best, move, bars = _Fit(start, errors(start), math.inf), np.zeros(PARTS), prior
    found = best.errors
    for left in reversed(range(replays)):
        logs = best.logs + move
        loss = _WORTH * math.log1p(found.loss() / _OWN_ERROR**2) + float(logs @ prior @ logs)
        if loss < best.loss:
            best = _Fit(logs, found, loss)
            move, bars = _move(best, prior)
        else:
            move = move / 3.0
        if not left or float(move @ bars @ move) < _DONE:
            break
        found = errors(best.logs + move)
    return best


def _move(now: _Fit, prior: Floats) -> tuple[Floats, Floats]:
    """To the least squares of what this replay says; and how sure it is (inverse covariance)."""
    seen = now.errors
    size = np.maximum(np.abs(seen.errors), 1e-9)
    scale = _WORTH / (_OWN_ERROR**2 + seen.loss())
    weighted = seen.slopes.T * (scale * seen.weights * np.minimum(1.0, _OUTLIER / size))
    bars = weighted @ seen.slopes + prior
    move = np.linalg.solve(bars, weighted @ seen.errors - prior @ now.logs)
    return move * min(1.0, _LONGEST_MOVE / max(float(np.abs(move).max()), 1e-9)), bars


def _errors(log: EngineLog, twin: Replay) -> _Errors:
    """TPOT rank by rank and TTFT request by request, of those that the replay came to."""
    real = log.real[: len(twin.ttft_s)]
    ttft_s, rest_s = _real_times(log, len(real))
    gaps = np.array([r.output_tokens - 1 for r in real])
    floor_s = 2.0 * twin.mean_step_s  # within a step or two a TTFT is chance, not speed
    waits = np.isfinite(twin.ttft_s) & np.isfinite(ttft_s)
    speeds = (gaps > 0) & (rest_s > 0.0) & (twin.rest_s > 0.0)
    worth = np.minimum(gaps[speeds], _FULL_TOKENS)
    # Rank by rank: when memory is short, which of them is preempted is chance, how many is not.
    mine_s, theirs_s = twin.rest_s[speeds] / gaps[speeds], rest_s[speeds] / gaps[speeds]
    tpot = np.log(np.sort(theirs_s)[np.argsort(np.argsort(mine_s))] / mine_s)
    weights = [
        worth / max(worth.sum(), 1),
        np.full(waits.sum(), _TTFT_WEIGHT / max(waits.sum(), 1)),
    ]
    return _Errors(
        np.concatenate([tpot, np.log((ttft_s[waits] + floor_s) / (twin.ttft_s[waits] + floor_s))]),
        np.concatenate(weights),
        np.vstack([
            twin.to_last[speeds] / twin.rest_s[speeds, None],
            twin.to_first[waits] / (twin.ttft_s[waits, None] + floor_s),
        ]),
        float(np.sqrt(weights[0] @ tpot**2)) if len(tpot) else math.nan,
    )  # fmt: skip


def _real_times(log: EngineLog, n: int) -> tuple[Floats, Floats]:
    """TTFT, and the time from first to last token; NaN where there is none."""
    sent_s = np.array([r.send_s for r in log.real[:n]])
    first_s = np.array([r.first_token_s for r in log.real[:n]], dtype=float)
    last_s = np.array([r.last_token_s for r in log.real[:n]], dtype=float)
    return first_s - sent_s, last_s - first_s
