"""When do requests arrive? Seeded arrival processes; each returns ascending times in seconds.

Give either `n` (so many requests) or `duration_s` (all before that time). The first k times are
the same whatever `n` is. Processes with a changing rate are unit-rate processes whose clock is
bent: time t is where the integral of the rate reaches the unit-rate time (exact, no thinning).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from workloads.errors import UnknownName, WorkloadError

FloatArray = NDArray[np.float64]
MAX_REQUESTS = 10_000_000
_CHUNK = 1024
_DAY_POINTS = 10_001  # between them a rate is constant


def poisson(
    rate_rps: float, seed: int, *, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """Independent arrivals: exponential gaps of mean 1/rate (CV 1)."""
    return gamma(rate_rps, 1.0, seed, n=n, duration_s=duration_s)


def gamma(
    rate_rps: float, cv: float, seed: int, *, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """Gamma gaps with coefficient of variation `cv`: 1 is Poisson, above 1 comes in bursts."""
    _positive(rate_rps=rate_rps, cv=cv)
    return _renewal(cv, seed, lambda u: u / rate_rps, n, duration_s)


def constant(
    rate_rps: float, seed: int = 0, *, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """One request every 1/rate seconds, the first at zero; `seed` is not used."""
    del seed
    _positive(rate_rps=rate_rps)
    _one_limit(n, duration_s)
    count = math.ceil(duration_s * rate_rps) if duration_s is not None else n
    times = np.arange(_count(count)) / rate_rps
    return times if duration_s is None else times[times < duration_s]


def burst(
    rate_rps: float,
    multiplier: float,
    start_s: float,
    length_s: float,
    seed: int,
    *,
    n: int | None = None,
    duration_s: float | None = None,
) -> FloatArray:
    """Poisson with a flood: `multiplier` times the rate during [start_s, start_s + length_s)."""
    _positive(rate_rps=rate_rps, multiplier=multiplier, length_s=length_s)
    if not 0.0 <= start_s < math.inf:
        raise WorkloadError(f"start_s must be >= 0, got {start_s!r}")
    before = rate_rps * start_s
    inside = rate_rps * multiplier * length_s

    def bend(u: FloatArray) -> FloatArray:
        flood = start_s + (u - before) / (rate_rps * multiplier)
        after = start_s + length_s + (u - before - inside) / rate_rps
        return np.where(u < before, u / rate_rps, np.where(u < before + inside, flood, after))

    return _renewal(1.0, seed, bend, n, duration_s)


def ramp(
    start_rps: float,
    end_rps: float,
    ramp_s: float,
    seed: int,
    *,
    n: int | None = None,
    duration_s: float | None = None,
) -> FloatArray:
    """Poisson whose rate goes linearly from start to end during `ramp_s`, then stays."""
    _positive(start_rps=start_rps, end_rps=end_rps, ramp_s=ramp_s)
    slope = (end_rps - start_rps) / ramp_s
    total = 0.5 * (start_rps + end_rps) * ramp_s

    def bend(u: FloatArray) -> FloatArray:
        # Root of start*t + slope*t^2/2 = u, in the form that is stable for slope -> 0.
        root = np.sqrt(np.maximum(start_rps**2 + 2.0 * slope * np.minimum(u, total), 0.0))
        rising = 2.0 * np.minimum(u, total) / (start_rps + root)
        return np.where(u < total, rising, ramp_s + (u - total) / end_rps)

    return _renewal(1.0, seed, bend, n, duration_s)


def pauses(
    rate_rps: float,
    cv: float,
    burst_s: float,
    pause_s: float,
    seed: int,
    *,
    n: int | None = None,
    duration_s: float | None = None,
) -> FloatArray:
    """Bursts with nothing between them, exponential in length, of means `burst_s` and `pause_s`;
    in a burst Gamma gaps of mean 1/rate and that `cv`."""
    _positive(rate_rps=rate_rps, cv=cv, burst_s=burst_s, pause_s=pause_s)

    def bend(u: FloatArray) -> FloatArray:
        busy_s = u / rate_rps
        lengths, gaps = (np.random.default_rng([seed, stream]) for stream in (1, 2))
        ends_s = np.cumsum(_until(busy_s.max(initial=0.0) / burst_s, lengths)) * burst_s
        idle_s = np.cumsum([0.0, *gaps.standard_exponential(len(ends_s))]) * pause_s
        return np.asarray(busy_s + idle_s[np.searchsorted(ends_s, busy_s)])

    return _renewal(cv, seed, bend, n, duration_s)


def day(
    low_rps: float,
    high_rps: float,
    day_s: float,
    seed: int,
    *,
    n: int | None = None,
    duration_s: float | None = None,
) -> FloatArray:
    """Poisson whose rate swings as a sine, day after day of `day_s`: low at its start and end, high
    in its middle."""
    _positive(low_rps=low_rps, high_rps=high_rps, day_s=day_s)
    share = np.linspace(0.0, 1.0, _DAY_POINTS)  # of a day
    half, swing = 0.5 * (low_rps + high_rps), 0.5 * (high_rps - low_rps)
    sent = day_s * (half * share - swing * np.sin(2.0 * np.pi * share) / (2.0 * np.pi))

    def bend(u: FloatArray) -> FloatArray:
        days, rest = np.divmod(u, sent[-1])
        return np.asarray(day_s * (days + np.interp(rest, sent, share)))

    return _renewal(1.0, seed, bend, n, duration_s)


PROCESSES: Mapping[str, Callable[..., FloatArray]] = {
    "poisson": poisson,
    "gamma": gamma,
    "constant": constant,
    "burst": burst,
    "ramp": ramp,
    "pauses": pauses,
    "day": day,
}


def generate(process: str, parameters: Mapping[str, float], seed: int, n: int) -> FloatArray:
    """Times of `n` requests of a process given by name.

    Raises:
        UnknownName: no such process.
        WorkloadError: a parameter is missing, unknown or out of range.
    """
    if process not in PROCESSES:
        raise UnknownName("arrival process", process, PROCESSES)
    function = PROCESSES[process]
    allowed = set(inspect.signature(function).parameters) - {"seed", "n", "duration_s"}
    if set(parameters) != allowed:
        stated = ", ".join(sorted(parameters)) or "none"
        raise WorkloadError(
            f"arrival process '{process}' takes {', '.join(sorted(allowed))}; got {stated}"
        )
    return function(**parameters, seed=seed, n=n)


def _renewal(
    cv: float,
    seed: int,
    bend: Callable[[FloatArray], FloatArray],
    n: int | None,
    duration_s: float | None,
) -> FloatArray:
    """Cumulate unit-mean gaps of the given CV, then bend the clock."""
    _one_limit(n, duration_s)
    rng = np.random.default_rng(seed)
    if n is not None:
        return bend(np.cumsum(_gaps(rng, cv, _count(n))))
    assert duration_s is not None
    gaps, times = np.empty(0), np.empty(0)
    while times.size == 0 or times[-1] < duration_s:
        gaps = np.concatenate([gaps, _gaps(rng, cv, max(_CHUNK, gaps.size))])
        times = bend(np.cumsum(gaps))
        _count(gaps.size)
    return times[times < duration_s]


def _gaps(rng: np.random.Generator, cv: float, count: int) -> FloatArray:
    if cv == 1.0:
        return rng.standard_exponential(count)
    return rng.standard_gamma(1.0 / cv**2, count) * cv**2


def _until(total: float, rng: np.random.Generator) -> FloatArray:
    """Exponential draws of mean one whose sum is more than `total`; the first ones are the same
    whatever it is. Raises WorkloadError: too many."""
    if total > MAX_REQUESTS:
        raise WorkloadError(f"burst_s is too short: more than {MAX_REQUESTS:,} bursts")
    made = np.empty(0)
    while made.sum() <= total:
        made = np.concatenate([made, rng.standard_exponential(max(_CHUNK, made.size))])
    return made


def _one_limit(n: int | None, duration_s: float | None) -> None:
    if (n is None) == (duration_s is None):
        raise WorkloadError("give either n or duration_s")
    if duration_s is not None:
        _positive(duration_s=duration_s)


def _count(n: int | None) -> int:
    if n is None or not 0 <= n <= MAX_REQUESTS:
        raise WorkloadError(f"n must be 0..{MAX_REQUESTS}, got {n!r}")
    return n


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0.0):
            raise WorkloadError(f"{name} must be a number > 0, got {value!r}")
