"""Which loads hurt? The reference window with bursts, a flood, a mad tenant or an attacker added.

Each builder takes the window by name and returns its requests, with the extra ones drawn from the
rows of the trace behind the window and told apart by `tenant`. All of it follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from workloads.load import LoadKey
from workloads.request import WorkloadRequest
from workloads.synthetic.arrivals import gamma
from workloads.traces.row import parse_rows

FLOOD_S, FLOOD_LENGTH_S, FLOOD_FACTOR = 30.0, 30.0, 10
TENANTS, MAD, MAD_FACTOR = ("t0", "t1", "t2", "t3", "t4"), "t0", 10
ATTACKER, ATTACK_SHARE, ATTACK_TTFT_S = "attacker", 0.1, 5.0
STALLED = "attacker, 20 ms, on_miss wait, stalls"
HOPELESS = "attacker, hopeless deadlines, on_miss wait"
_BURSTS, _EXTRA, _TENANT = 31, 32, 33  # streams below the seed

Requests = list[WorkloadRequest]


def bursts(key: LoadKey, cv: float) -> Requests:
    """The same requests and mean rate, gamma gaps of this coefficient of variation."""
    requests = key.requests()
    seed = int(_rng(key, _BURSTS).integers(2**62))
    times_s = gamma(1.0, cv, seed, n=len(requests))
    times_s = (times_s - times_s[0]) * requests[-1].send_s / (times_s[-1] - times_s[0])
    return [replace(r, send_s=float(t)) for r, t in zip(requests, times_s, strict=True)]


def flood(key: LoadKey) -> Requests:
    """FLOOD_FACTOR times the load for FLOOD_LENGTH_S; those of the flood are tenant `flood`."""
    requests = key.requests()
    rate_rps = len(requests) / requests[-1].send_s
    count = round((FLOOD_FACTOR - 1) * rate_rps * FLOOD_LENGTH_S)
    return _with(requests, _behind(key, count, FLOOD_S, FLOOD_S + FLOOD_LENGTH_S, "flood"))


def tenants(key: LoadKey, mad: int | None) -> Requests:
    """Five equal tenants; MAD has `mad` times its share, None = it stays away."""
    requests = key.requests()
    names = _rng(key, _TENANT).permutation(np.arange(len(requests)) % len(TENANTS))
    shared = [replace(r, tenant=TENANTS[n]) for r, n in zip(requests, names, strict=True)]
    if mad is None:
        return _with([r for r in shared if r.tenant != MAD], [])
    count = (mad - 1) * sum(r.tenant == MAD for r in shared)
    return _with(shared, _behind(key, count, 0.0, requests[-1].send_s, MAD))


def attack(
    key: LoadKey,
    tpot_s: float | None,
    ttft_s: float = ATTACK_TTFT_S,
    prompt_tokens: int | None = None,
) -> Requests:
    """ATTACK_SHARE more requests, all with these SLOs, from ATTACKER; None = it stays away.
    prompt_tokens: of each, None = as in the trace."""
    requests = key.requests()
    if tpot_s is None:
        return requests
    count = round(ATTACK_SHARE * len(requests))
    extra = [
        replace(
            r,
            slo_class="",
            ttft_slo_s=ttft_s,
            tpot_slo_s=tpot_s,
            prompt_tokens=prompt_tokens or r.prompt_tokens,
        )
        for r in _behind(key, count, 0.0, requests[-1].send_s, ATTACKER)
    ]
    return _with(requests, extra)


LOADS: Mapping[str, Callable[[LoadKey], Requests]] = {
    "": lambda key: key.requests(),
    "gamma, CV 1": partial(bursts, cv=1.0),
    "gamma, CV 5": partial(bursts, cv=5.0),
    "gamma, CV 10": partial(bursts, cv=10.0),
    "flood": flood,
    "tenant absent": partial(tenants, mad=None),
    "tenant x1": partial(tenants, mad=1),
    "tenant x10": partial(tenants, mad=MAD_FACTOR),
    "no attacker": partial(attack, tpot_s=None),
    "attacker, 50 ms": partial(attack, tpot_s=0.050),
    "attacker, 20 ms": partial(attack, tpot_s=0.020),
    "attacker, 15 ms": partial(attack, tpot_s=0.015),
    "attacker, 1 ms": partial(attack, tpot_s=0.001),
    STALLED: partial(attack, tpot_s=0.020, ttft_s=1.0),
    HOPELESS: partial(attack, tpot_s=1.0, ttft_s=1e-3, prompt_tokens=8000),
}


def _behind(key: LoadKey, count: int, start_s: float, end_s: float, tenant: str) -> Requests:
    """`count` requests of the rows behind the window, at random times."""
    _, end = parse_rows(key.rows or "")
    assert end is not None, "the window needs an end"
    found = replace(key, rows=f"{end}:{end + count}").requests() if count else []
    times_s = np.sort(_rng(key, _EXTRA).uniform(start_s, end_s, count))
    return [replace(r, send_s=float(t), tenant=tenant) for r, t in zip(found, times_s, strict=True)]


def _with(requests: Sequence[WorkloadRequest], extra: Sequence[WorkloadRequest]) -> Requests:
    """Both, numbered in order of time."""
    both = sorted([*requests, *extra], key=lambda r: r.send_s)
    return [replace(r, index=number) for number, r in enumerate(both)]


def _rng(key: LoadKey, stream: int) -> np.random.Generator:
    return np.random.default_rng([key.seed, stream])
