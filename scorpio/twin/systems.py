"""What does a policy name mean for the engine? Stock vLLM with flags, or Scorpio with a policy.

The rivals that stock vLLM itself offers run on the stock scheduler class, untouched; all others
are policies of `scorpio.core.registry` and run in `ScorpioScheduler`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scorpio.core.latency import LatencyProfile
from scorpio.core.registry import check_policy
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.policy_packages import all_policies
from workloads.request import WorkloadRequest


@dataclass(frozen=True, slots=True)
class System:
    """policy None = the stock scheduler class with `spec`; else that policy in ScorpioScheduler."""

    name: str
    spec: EngineSpec
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a stock recipe may look at: the engine, its measured speed, the promises asked for."""

    spec: EngineSpec
    profile: LatencyProfile
    requests: Sequence[WorkloadRequest]
    options: Mapping[str, float]


# One stock configuration was tuned in advance on the reference window; `--tune` replaces it by
# the best of a grid on another part of the trace at hand.
TUNED = "fcfs-tuned"
DEFAULT_TUNING = {"max_num_batched_tokens": 512.0, "max_num_queued_tokens": 6000.0}
LONG_PREFILL_TOKENS = 512.0


def _fcfs(setting: Setting) -> EngineSpec:
    return setting.spec


def _fcfs_tuned(setting: Setting) -> EngineSpec:
    chosen = {**DEFAULT_TUNING, **setting.options}
    cap = chosen["max_num_queued_tokens"]
    budget = max(int(chosen["max_num_batched_tokens"]), setting.spec.max_num_seqs)
    return replace(
        setting.spec,
        max_num_batched_tokens=budget,
        max_num_queued_tokens=int(cap) if cap > 0 else None,
    )


def _queue_cap(setting: Setting) -> EngineSpec:
    """vLLM's own recipe: cap = target TTFT x prefill rate; the target is the tightest promise."""
    budget = setting.spec.max_num_batched_tokens
    step_s = setting.profile.step.step_s(0, 0, budget, float(budget * budget))
    promises = [r.ttft_slo_s for r in setting.requests]
    target_s = setting.options.get("target_ttft_s", min(promises, default=float("inf")))
    if not target_s < float("inf"):
        return setting.spec
    return replace(setting.spec, max_num_queued_tokens=max(1, int(target_s * budget / step_s)))


def _adaptive_long_prefill(setting: Setting) -> EngineSpec:
    threshold = setting.options.get("long_prefill_token_threshold", LONG_PREFILL_TOKENS)
    return replace(
        setting.spec,
        long_prefill_token_threshold=int(threshold),
        long_prefill_token_threshold_adaptive=True,
    )


def _priority_edf(setting: Setting) -> EngineSpec:
    return replace(setting.spec, policy="priority")  # the front door sends deadlines as priorities


_STOCK: dict[str, Callable[[Setting], EngineSpec]] = {
    "fcfs": _fcfs,
    TUNED: _fcfs_tuned,
    "fcfs+queue-cap": _queue_cap,
    "fcfs+adaptive-long-prefill": _adaptive_long_prefill,
    "priority-edf": _priority_edf,
}


# Options of the stock recipes, and the least value of each.
_STOCK_OPTIONS: dict[str, dict[str, float]] = {
    TUNED: {"max_num_batched_tokens": 1.0, "max_num_queued_tokens": 0.0},
    "fcfs+queue-cap": {"target_ttft_s": 0.001},
    "fcfs+adaptive-long-prefill": {"long_prefill_token_threshold": 1.0},
}


def system_names() -> tuple[str, ...]:
    """Every name that `--policy` takes in the twin, sorted."""
    return tuple(sorted({*_STOCK, *all_policies()}))


def check_system(name: str, options: Mapping[str, float]) -> None:
    """Is there such a system, and would it take these options? Raises ValueError that says why not,
    with what is valid."""
    if name in all_policies():
        check_policy(name, options)
        return
    if name not in _STOCK:
        raise ValueError(f"unknown policy {name!r}; valid: {', '.join(system_names())}")
    ranges = _STOCK_OPTIONS.get(name, {})
    for option, value in options.items():
        if option not in ranges:
            valid = ", ".join(ranges) or "none"
            raise ValueError(f"{name} has no option {option}; valid: {valid}")
        if not ranges[option] <= value < float("inf"):
            raise ValueError(f"{name} option {option} must be >= {ranges[option]:g}, got {value}")


def make_system(name: str, setting: Setting) -> System:
    """Raises ValueError with the valid names."""
    check_system(name, {})
    if name in _STOCK:
        return System(name, _STOCK[name](setting))
    return System(name, setting.spec, name)
