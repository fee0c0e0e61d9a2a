"""Which policies exist? Names are exact; one table, one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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


def _fcfs(inputs: PolicyInputs) -> Policy:
    Options.parse("fcfs", inputs.options)
    return Fcfs()


def _mooncake(inputs: PolicyInputs) -> Policy:
    return Mooncake(
        inputs.profile, inputs.limits, MooncakeOptions.parse("mooncake", inputs.options)
    )


def _edf(inputs: PolicyInputs) -> Policy:
    Options.parse("edf", inputs.options)
    return Edf()


def _qoserve(inputs: PolicyInputs) -> Policy:
    return Qoserve(inputs.profile, QoserveOptions.parse("qoserve", inputs.options))


def _scorpio(inputs: PolicyInputs) -> Policy:
    return Scorpio(inputs.profile, inputs.limits, ScorpioOptions.parse("scorpio", inputs.options))


def _scorpio_paper(inputs: PolicyInputs) -> Policy:
    return ScorpioPaper(
        inputs.profile, inputs.limits, PaperOptions.parse("scorpio-paper", inputs.options)
    )


def _sjf(inputs: PolicyInputs) -> Policy:
    return Sjf(SjfOptions.parse("sjf", inputs.options))


_NOMINAL = EngineLimits(
    max_num_seqs=8, token_budget=2048, kv_tokens=65_536, block_tokens=16, max_model_len=4096
)
_POLICIES: dict[str, Callable[[PolicyInputs], Policy]] = {
    "fcfs": _fcfs,
    "mooncake": _mooncake,
    "edf": _edf,
    "qoserve": _qoserve,
    "scorpio": _scorpio,
    "scorpio-paper": _scorpio_paper,
    "sjf": _sjf,
}


def policy_names() -> tuple[str, ...]:
    """All registered policy names, sorted."""
    return tuple(sorted(_POLICIES))


def check_policy(name: str, options: Mapping[str, float]) -> None:
    """Would an engine take this policy with these options? Raises ValueError saying what is valid.

    No policy checks its options against the engine, so a nominal one will do.
    """
    make_policy(name, PolicyInputs(UNMEASURED, _NOMINAL, options))


def make_policy(name: str, inputs: PolicyInputs) -> Policy:
    """Build a policy by exact name. Raises ValueError listing the valid names."""
    if name not in _POLICIES:
        raise ValueError(f"unknown policy {name!r}; valid: {', '.join(policy_names())}")
    return _POLICIES[name](inputs)
