"""Who calls, when, with what, and what goes wrong around it? Drawn from the seed, one by one.

A request draws all its numbers from a stream of its own: the shrinker may leave out others, or
switch a feature off, and this one stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from random import Random

from scorpio.core.slo import XARG_CLASS, XARG_ON_MISS, XARG_PREDICTED, XARG_QUANTILES, XARG_TENANT
from scorpio.twin.engine.arrivals import Arrival
from tests.simulation.swarm import Swarm

HOSTILE_SLOS: tuple[object, ...] = (
    math.nan, math.inf, -math.inf, -5.0, 0.0, 1e308, 5e-324, 1e-3, True, "1e-3", "nan", "", None,
    [], {}, "9" * 400,
)  # fmt: skip
HOSTILE_LENGTHS: tuple[object, ...] = (math.nan, -3, 0, 1e308, "inf", True, [1.0], None, 1e9)
_DRAWS = 40  # numbers that each request has


@dataclass(frozen=True, slots=True)
class Call(Arrival):
    """One request of one client; the choices of an n > 1 request are calls of one `parent`.

    late_s: time between the API process and the engine. grammar_s: until its grammar is compiled
    (None = it has none), after which it fails if `grammar_fails`. parts: prompt tokens of further
    inputs of a streaming session, sent `part_s` apart.
    """

    name: str = ""
    parent: str = ""
    late_s: float = 0.0
    grammar_s: float | None = None
    grammar_fails: bool = False
    adapter: int = 0
    parts: tuple[int, ...] = ()
    part_s: float = 0.0
    asks: bool = False  # for anything: an SLO of its own, a class

    @property
    def request_id(self) -> str:
        """As vLLM names the choices of one request."""
        return self.name


class _Numbers:
    """A request's own numbers in [0, 1), in a fixed order whatever is done with them."""

    def __init__(self, seed: int, index: int) -> None:
        rng = Random((seed << 20) + index)
        self._numbers = [rng.random() for _ in range(_DRAWS)]
        self._next = 0

    def __call__(self) -> float:
        self._next += 1
        return self._numbers[self._next - 1]

    def log(self, low: float, high: float) -> float:
        """Log-uniform."""
        return low * math.exp(self() * math.log(high / low))

    def pick(self, *values: object) -> object:
        """One of these."""
        return values[int(self() * len(values))]


def draw_calls(swarm: Swarm, keep: Collection[int] | None = None) -> list[Call]:
    """All calls in order of time. keep: only the requests with these numbers."""
    calls: list[Call] = []
    at_s = 0.0
    gap_s = swarm.mean_request_s / swarm.spec.max_num_seqs / swarm.load
    for index in range(swarm.requests):
        n = _Numbers(swarm.seed, index)
        at_s += gap_s * (0.0 if n() < 0.3 else -math.log(1.0 - n()) / 0.7)
        if keep is None or index in keep:
            calls += _choices(swarm, _call(swarm, n, index, at_s), n)
    return calls


def _call(swarm: Swarm, n: _Numbers, index: int, at_s: float) -> Call:
    longest = swarm.spec.effective_max_model_len
    output = max(1, min(round(n.log(1.0, 20.0)), longest // 4))
    max_tokens = max(output, min(round(output * n.log(1.0, 6.0)), longest // 2))
    most = longest - max_tokens
    prompt = min(round(n.log(1.0, max(2.0, longest / 4.0))), most)
    big = n() < 0.1
    if big and swarm.has("big"):
        prompt = most
    step_s = swarm.step.step_s(1, 0.0)
    xargs = _slo(swarm, n, step_s) | _tenant(swarm, n, index) | _lengths(swarm, n, output)
    leaves, leaves_s = n() < 0.25, at_s + n.log(0.5, 200.0) * step_s
    compiles, grammar_s, fails = n() < 0.2, n.log(0.1, 1000.0) * step_s, n() < 0.2
    adapter, has_adapter = 1 + int(n() * 4), n() < 0.6
    late, late_s = n() < 0.3, n.log(0.01, 100.0) * step_s
    prefix, streams = n(), n() < 0.15
    parts, part_s = tuple(1 + int(n() * 20) for _ in range(1 + int(n() * 2))), n.log(0.1, 30.0)
    streams = streams and swarm.has("streaming")
    if streams:  # every part adds its tokens, and max_tokens more
        fits = prompt + len(parts) * (20 + max_tokens) + max_tokens < longest
        parts = parts if fits else ()
    return Call(
        index,
        at_s,
        prompt,
        output if not (streams and parts) else max_tokens,
        max_tokens,
        xargs=xargs,
        prefix_ids=tuple(range(int(prefix * 4), 4))
        if prefix < 0.75 and swarm.has("prefix")
        else (),
        abort_s=leaves_s if leaves and swarm.has("aborts") else math.inf,
        name=f"r{index:05d}",
        late_s=late_s if late and swarm.has("late") else 0.0,
        grammar_s=grammar_s if compiles and swarm.has("grammar") and not streams else None,
        grammar_fails=fails and swarm.has("bad_grammar"),
        adapter=adapter if has_adapter and swarm.has("lora") else 0,
        parts=parts if streams else (),
        part_s=part_s * step_s,
        asks=any(key.startswith("slo_") and key != XARG_TENANT for key in xargs),
    )


def _choices(swarm: Swarm, call: Call, n: _Numbers) -> list[Call]:
    """n > 1: as many requests with the same everything, named as vLLM does."""
    several, count = n() < 0.2, 2 + int(n() ** 3 * 14)
    if not (several and swarm.has("choices")) or call.parts:
        return [call]
    index = call.index
    return [
        replace(
            call, index=index + swarm.requests * (1 + k), name=f"{k}_{call.name}", parent=call.name
        )
        for k in range(count)
    ]


def _slo(swarm: Swarm, n: _Numbers, step_s: float) -> dict[str, object]:
    """SLOs in the engine's own scale, named classes, or what no client should send."""
    asked: dict[str, object] = {}
    kinds = (n(), n(), n(), n())
    ttft_ms, tpot_ms = 1e3 * step_s * n.log(1.5, 2000.0), 1e3 * step_s * n.log(0.7, 20.0)
    miss = n.pick("reject", "reject", "wait", "degrade")
    hostile, impossible, odd = n(), n(), (n.pick(*HOSTILE_SLOS), n.pick(*HOSTILE_SLOS))
    if swarm.has("slo"):
        if kinds[0] < 0.7:
            asked["slo_ttft_ms"] = ttft_ms
        if kinds[1] < 0.6:
            asked["slo_tpot_ms"] = tpot_ms
        if kinds[2] < 0.1:
            asked["slo_e2el_ms"] = 3.0 * ttft_ms
        if asked and miss != "reject":
            asked[XARG_ON_MISS] = miss
    if swarm.has("classes") and kinds[3] < 0.5:
        asked = {XARG_CLASS: "quick" if kinds[3] < 0.25 else "slow"}
    if swarm.has("hostile") and hostile < 0.15:
        asked = {"slo_ttft_ms": odd[0], "slo_tpot_ms": odd[1]}
    if swarm.has("hostile") and impossible < 0.1:
        asked = {"slo_ttft_ms": 1e-3, "slo_tpot_ms": 1.0, XARG_ON_MISS: "wait"}
    return asked


def _tenant(swarm: Swarm, n: _Numbers, index: int) -> dict[str, object]:
    who = n()
    if not swarm.has("tenants"):
        return {}
    return {XARG_TENANT: "ab"[int(who * 4)] if who < 0.5 else f"fresh-{index}"}


def _lengths(swarm: Swarm, n: _Numbers, output: int) -> dict[str, object]:
    kind, factor, odd = n(), n.log(0.1, 10.0), n.pick(*HOSTILE_LENGTHS)
    if not swarm.has("predictions") or kind < 0.3:
        return {}
    if kind < 0.4:
        return {XARG_PREDICTED: odd, XARG_QUANTILES: odd}
    mean = max(1.0, output * factor)
    return {XARG_PREDICTED: mean, XARG_QUANTILES: (0.5 * mean, mean, 2.0 * mean)}
