"""Which policies exist? Names are exact; one table, one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scorpio.core.latency import UNMEASURED, LatencyProfile
from scorpio.core.options import Options
from scorpio.core.policies.paper.options import PaperOptions
from scorpio.core.policies.paper.policy import ScorpioPaper
from scorpio.core.policies.rivals.edf import Edf
from scorpio.core.policies.rivals.fcfs import Fcfs
from scorpio.core.policies.rivals.mooncake.policy import Mooncake, MooncakeOptions
from scorpio.core.policies.rivals.qoserve.policy import Qoserve, QoserveOptions
from scorpio.core.policies.rivals.sjf import Sjf, SjfOptions
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.policy import Policy
from scorpio.core.snapshot import EngineLimits

DEFAULT_POLICY = "scorpio"


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """What a policy is built from: the engine's speed as measured, its limits, its options."""

    profile: LatencyProfile
    limits: EngineLimits
    options: Mapping[str, float] = field(default_factory=dict)


_NOMINAL = EngineLimits(
    max_num_seqs=8, token_budget=2048, kv_tokens=65_536, block_tokens=16, max_model_len=4096
)
_Make = Callable[[PolicyInputs, Any], Policy]  # Any: its own options
_POLICIES: dict[str, tuple[type[Options], _Make]] = {
    "fcfs": (Options, lambda given, options: Fcfs()),
    "mooncake": (MooncakeOptions, lambda given, o: Mooncake(given.profile, given.limits, o)),
    "edf": (Options, lambda given, options: Edf()),
    "qoserve": (QoserveOptions, lambda given, options: Qoserve(given.profile, options)),
    "scorpio": (ScorpioOptions, lambda given, o: Scorpio(given.profile, given.limits, o)),
    "scorpio-paper": (PaperOptions, lambda given, o: ScorpioPaper(given.profile, given.limits, o)),
    "sjf": (SjfOptions, lambda given, options: Sjf(options)),
}


def policy_names() -> tuple[str, ...]:
    """All registered policy names, sorted."""
    return tuple(sorted(_POLICIES))


def check_policy(name: str, options: Mapping[str, float]) -> None:
    """Would an engine take this policy with these options? Raises ValueError saying what is valid.

    No policy checks its options against the engine, so a nominal one will do.
    """
    make_policy(name, PolicyInputs(UNMEASURED, _NOMINAL, options))


def policy_options(name: str, given: Mapping[str, float]) -> dict[str, float]:
    """Every option of a policy, those that are not given as they are by default. Raises ValueError
    on an unknown name or option, or a value out of range."""
    kind, _ = _known(name)
    options = kind.parse(name, given)
    return {one.name: getattr(options, one.name) for one in fields(options)}


def make_policy(name: str, inputs: PolicyInputs) -> Policy:
    """Build a policy by exact name. Raises ValueError listing the valid names."""
    kind, make = _known(name)
    return make(inputs, kind.parse(name, inputs.options))


def _known(name: str) -> tuple[type[Options], _Make]:
    if name not in _POLICIES:
        raise ValueError(f"unknown policy {name!r}; valid: {', '.join(policy_names())}")
    return _POLICIES[name]
