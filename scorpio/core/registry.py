"""Which policies exist? Names are exact; one table, one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scorpio.core.latency import LatencyProfile
from scorpio.core.policies.fcfs import Fcfs
from scorpio.core.policies.paper_options import PaperOptions
from scorpio.core.policies.scorpio_paper import ScorpioPaper
from scorpio.core.policy import Policy
from scorpio.core.views import EngineLimits


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """What a policy is built from: the engine's speed as measured, its limits, its options."""

    profile: LatencyProfile
    limits: EngineLimits
    options: Mapping[str, float] = field(default_factory=dict)


def _fcfs(inputs: PolicyInputs) -> Policy:
    if inputs.options:
        raise ValueError(f"fcfs has no option {', '.join(sorted(inputs.options))}; valid: none")
    return Fcfs()


def _scorpio_paper(inputs: PolicyInputs) -> Policy:
    return ScorpioPaper(inputs.profile, inputs.limits, PaperOptions.parse(inputs.options))


_POLICIES: dict[str, Callable[[PolicyInputs], Policy]] = {
    "fcfs": _fcfs,
    "scorpio-paper": _scorpio_paper,
}


def policy_names() -> tuple[str, ...]:
    """All registered policy names, sorted."""
    return tuple(sorted(_POLICIES))


def make_policy(name: str, inputs: PolicyInputs) -> Policy:
    """Build a policy by exact name. Raises ValueError listing the valid names."""
    if name not in _POLICIES:
        raise ValueError(f"unknown policy {name!r}; valid: {', '.join(policy_names())}")
    return _POLICIES[name](inputs)
