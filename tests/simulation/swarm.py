"""Which engine, which policy, which kinds of trouble? One seed draws one configuration.

Every feature is on or off by its own coin, so that a fault that needs two of them together is
drawn soon and one that needs a quiet engine is drawn too. All that a feature changes is drawn
whether it is on or not: switching one off (as the shrinker does) leaves all else as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.engine.virtual.build import EngineSpec

# In an order of its own. A seed means the same for as long as these are: planted bugs are known by
# seeds. Policies of later on are drawn from seeds that stand for no bug.
POLICIES = ("fcfs", "mooncake", "edf", "qoserve", "scorpio", "scorpio-paper", "sjf")
LATER, LATER_FROM = ("slidingserve", "fairbatching", "qoserve+reject"), 500
# What can be switched on; the share of seeds that have it.
FEATURES = {
    "slo": 0.8,  # requests state TTFT and TPOT SLOs
    "hostile": 0.3,  # NaN, inf, negative, 1 ms TPOT, `wait` with impossible deadlines
    "classes": 0.3,  # named classes, sometimes a default one
    "tenants": 0.4,  # names, some fresh for each request
    "grammar": 0.35,  # JSON mode: seconds of compilation before a request may start
    "bad_grammar": 0.15,  # some of these never compile
    "aborts": 0.5,
    "choices": 0.3,  # n > 1
    "streaming": 0.2,  # input that arrives in parts
    "lora": 0.25,
    "prefix": 0.4,  # shared prefixes, and the cache that finds them
    "resets": 0.2,  # of the prefix cache, with and without those who run
    "pauses": 0.25,  # keep, wait and abort; sleep clears the cache as well
    "stalls": 0.3,  # the process is stopped, or one step takes seconds
    "noise": 0.5,  # steps scatter by some percent
    "throttled": 0.15,  # from some moment on all steps take longer, or shorter
    "predictions": 0.5,  # lengths, from good to hostile
    "late": 0.25,  # the API process (a slow predictor) holds requests back
    "profile": 0.85,  # a latency profile, else none
    "misprofiled": 0.4,  # one that is off by 0.1 to 10
    "clock": 0.3,  # the wall clock steps, runs backwards or stands still
    "status": 0.2,  # a run_dir, into which the engine writes its state
    "disk": 0.15,  # and which is gone for a while
    "switch": 0.2,  # policies are switched while requests run
    "failing": 0.15,  # the policy raises now and then
    "big": 0.25,  # prompts as long as the model allows
    "options": 0.2,  # of the policy
    "unchunked": 0.1,  # prompts may not be cut
    "caps": 0.15,  # on what may wait
    "bad_keys": 0.1,  # the policy's queue key raises or is NaN
}  # fmt: skip
BLOCK_TOKENS = 16
_TICKS = float(1 << 20)  # to a second
BREAKER_QUIET_S, MOST_WAITING = 5.0, 25
FEW, MANY = 20, 300  # requests


@dataclass(frozen=True, slots=True)
class Swarm:
    """One seed's engine and load. load: how much is offered, 1 = what the engine can just do."""

    seed: int
    policy: str
    spec: EngineSpec
    step: StepModel
    features: frozenset[str]
    requests: int
    load: float
    profile_factor: float
    options: dict[str, float] = field(default_factory=dict)

    def has(self, feature: str) -> bool:
        """Is it on?"""
        return feature in self.features

    @property
    def mean_request_s(self) -> float:
        """Rough time that one request alone occupies one of the engine's places."""
        return 8.0 * self.step.step_s(1, 0.0)

    @property
    def profile(self) -> LatencyProfile | None:
        """What the operator believes of this engine."""
        if not self.has("profile"):
            return None
        factor = self.profile_factor if self.has("misprofiled") else 1.0
        return profile_of(self.step, factor)

    @property
    def has_run_dir(self) -> bool:
        """Does the engine talk to operators?"""
        return not self.features.isdisjoint({"status", "disk", "switch"})

    def settings(self, run_dir: str | None = None) -> dict[str, Any]:
        """`additional_config["scorpio"]`."""
        told: dict[str, Any] = {"policy": self.policy, "run_dir": run_dir}
        if self.has("failing") or self.has("bad_keys"):
            told |= {"breaker_limit": 3, "breaker_quiet_s": BREAKER_QUIET_S}
        if self.has("caps"):
            told["most_waiting"] = MOST_WAITING
        if self.has("options") and self.policy == "scorpio":
            told["policy_options"] = dict(self.options)
        if (profile := self.profile) is not None:
            told["latency"] = profile.to_dict()
        if self.has("classes"):
            base_ms = 1e3 * self.step.step_s(1, 0.0)
            told["classes"] = {
                "quick": {"ttft_ms": 40.0 * base_ms, "tpot_ms": 3.0 * base_ms, "value": 2.0},
                "slow": {"ttft_ms": 4000.0 * base_ms, "on_miss": "wait"},
            }
        return told


def tick(seconds: float) -> float:
    """To a multiple of 2^-20 s: sums of such times are exact, so a run that is moved in time is the
    same run."""
    return round(seconds * _TICKS) / _TICKS


def profile_of(step: StepModel, factor: float) -> LatencyProfile:
    """A profile `factor` times as slow as `step`."""
    scaled = StepModel(
        step.base_s * factor,
        step.low_token_s * factor,
        step.high_token_s * factor,
        step.knee_tokens,
        step.prefill_sq_s * factor,
        step.prefill_prefix_s * factor,
        step.context_token_s * factor,
    )
    return LatencyProfile(decode_from_step(scaled), prefill_from_step(scaled), scaled, "simulated")


def draw(seed: int) -> Swarm:
    """The configuration of this seed."""
    rng = Random(seed * 2_654_435_761 + 1)
    policy = _policy(rng)
    if policy != "scorpio" and abs(seed) >= LATER_FROM and seed % 3 == 0:
        policy = LATER[abs(seed) // 3 % len(LATER)]
    features = frozenset(name for name, share in FEATURES.items() if rng.random() < share)
    requests = round(math.exp(rng.uniform(math.log(FEW), math.log(MANY))))
    step = _step_model(rng)
    load = rng.choice((0.3, 0.8, 1.1, 1.5, 3.0, 3.0, 50.0))
    spec = _engine(rng, features)
    factor = math.exp(rng.uniform(math.log(0.1), math.log(10.0)))
    options = {"patience_s": rng.choice((1.0, 10.0, 60.0)), "tenant_share": rng.choice((0.0, 1.25))}
    return Swarm(seed, policy, spec, step, features, requests, load, factor, options)


def _policy(rng: Random) -> str:
    """Ours in every second seed, else any."""
    ours, other = rng.random() < 0.5, rng.choice(POLICIES)
    return "scorpio" if ours else other


def _step_model(rng: Random) -> StepModel:
    """Fixed costs from 5 ms to 2 s; a prompt token costs 0.1 to 2 % of that."""
    base_s = math.exp(rng.uniform(math.log(0.005), math.log(2.0)))
    token_s = base_s * math.exp(rng.uniform(math.log(0.001), math.log(0.02)))
    context_s = base_s * math.exp(rng.uniform(math.log(1e-7), math.log(1e-4)))
    return StepModel(base_s, token_s * 0.5, token_s, 16.0, 0.0, 0.0, context_s)


def _engine(rng: Random, features: frozenset[str]) -> EngineSpec:
    """From one sequence to 64, from a pool that holds one long request to one that holds all."""
    longest = rng.choice((96, 192, 384, 1536))
    least = longest // BLOCK_TOKENS + 2
    blocks = min(math.ceil(least * math.exp(rng.uniform(0.0, math.log(60.0)))), 3000)
    seqs = rng.choice((1, 2, 4, 8, 8, 16, 16, 32, 64))
    budget = rng.choice((16, 32, 64, 64, 128, 256, 512, 2048))
    whole = "unchunked" in features
    depth: Literal[1, 2] = rng.choice((1, 2))
    runner: Literal["v1", "v2"] = rng.choice(("v1", "v2"))
    threshold = rng.choice((0, 0, 0, 32))
    return EngineSpec(
        max_num_seqs=seqs,
        max_num_batched_tokens=longest if whole else max(budget, seqs),
        enable_chunked_prefill=not whole,
        num_blocks=blocks,
        block_size=BLOCK_TOKENS,
        max_model_len=longest,
        enable_prefix_caching="prefix" in features,
        long_prefill_token_threshold=0 if whole else threshold,
        pipeline_depth=depth,
        model_runner=runner,
        max_loras=2 if "lora" in features else 0,
    )
