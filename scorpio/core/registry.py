"""Which policies exist? Names are exact; one table, and what other packages add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scorpio.core.latency import UNMEASURED, LatencyProfile
from scorpio.core.options import Options
from scorpio.core.policies.paper.options import PaperOptions
from scorpio.core.policies.paper.policy import ScorpioPaper
from scorpio.core.policies.rivals.edf import Edf
from scorpio.core.policies.rivals.fairbatching.policy import FairBatching, FairBatchingOptions
from scorpio.core.policies.rivals.fcfs import Fcfs
from scorpio.core.policies.rivals.mooncake.policy import Mooncake, MooncakeOptions
from scorpio.core.policies.rivals.qoserve.policy import Qoserve, QoserveOptions
from scorpio.core.policies.rivals.sjf import Sjf, SjfOptions
from scorpio.core.policies.rivals.slidingserve.policy import SlidingServe, SlidingServeOptions
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


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """How a policy comes to be. options: the class of its options. make: the policy, of what it is
    given and its options, an object of that class."""

    options: type[Options]
    make: Callable[[PolicyInputs, Any], Policy]


@dataclass(frozen=True, slots=True)
class Offer:
    """A policy of another package. origin: which one, for errors. load: imports it; raises
    ValueError naming the origin."""

    origin: str
    load: Callable[[], PolicyKind]


_BUILT_IN: dict[str, PolicyKind] = {
    "fairbatching": PolicyKind(
        FairBatchingOptions, lambda given, options: FairBatching(given.profile, options)
    ),
    "fcfs": PolicyKind(Options, lambda given, options: Fcfs()),
    "mooncake": PolicyKind(
        MooncakeOptions, lambda given, o: Mooncake(given.profile, given.limits, o)
    ),
    "edf": PolicyKind(Options, lambda given, options: Edf()),
    "qoserve": PolicyKind(QoserveOptions, lambda given, options: Qoserve(given.profile, options)),
    "qoserve+reject": PolicyKind(
        QoserveOptions, lambda given, options: Qoserve(given.profile, options, refuses=True)
    ),
    "scorpio": PolicyKind(ScorpioOptions, lambda given, o: Scorpio(given.profile, given.limits, o)),
    "scorpio-paper": PolicyKind(
        PaperOptions, lambda given, o: ScorpioPaper(given.profile, given.limits, o)
    ),
    "slidingserve": PolicyKind(
        SlidingServeOptions, lambda given, options: SlidingServe(given.profile, options)
    ),
    "sjf": PolicyKind(SjfOptions, lambda given, options: Sjf(options)),
}
# Settings of stock vLLM, which comparisons take where they take a policy.
STOCK_SETTINGS = frozenset(
    {"fcfs-tuned", "fcfs+queue-cap", "fcfs+adaptive-long-prefill", "priority-edf"}
)
_OFFERED: dict[str, list[Offer]] = {}


def register(name: str, offer: Offer) -> None:
    """Make a policy of another package known. Nothing of it is imported until it is asked for; a
    name that two packages have is an error then, for either may be meant.

    Raises ValueError: the name is one of ours. It goes on meaning what it meant: `fcfs` is the way
    back to stock vLLM, whatever is installed.
    """
    if name in _BUILT_IN or name in STOCK_SETTINGS:
        raise ValueError(
            f"policy {name!r} of {offer.origin} is left out: the name is Scorpio's own; rename it"
        )
    offers = _OFFERED.setdefault(name, [])
    if offer.origin not in [known.origin for known in offers]:
        offers.append(offer)


def policy_names() -> tuple[str, ...]:
    """All registered policy names, sorted."""
    return tuple(sorted({*_BUILT_IN, *_OFFERED}))


def check_policy(name: str, options: Mapping[str, float]) -> None:
    """Would an engine take this policy with these options? Raises ValueError saying what is valid.

    No policy checks its options against the engine, so a nominal one will do.
    """
    make_policy(name, PolicyInputs(UNMEASURED, _NOMINAL, options))


def policy_options(name: str, given: Mapping[str, float]) -> dict[str, float]:
    """Every option of a policy, those that are not given as they are by default. Raises ValueError
    on an unknown name or option, or a value out of range."""
    options = _known(name).options.parse(name, given)
    return {one.name: getattr(options, one.name) for one in fields(options)}


@dataclass(frozen=True, slots=True)
class OptionRange:
    """What an option is by default, and between what it may be; switch: on (1) or off (0)."""

    default: float
    least: float
    greatest: float
    switch: bool


def option_ranges(name: str) -> dict[str, OptionRange]:
    """Every option of a policy. Raises ValueError on an unknown name."""
    kind = _known(name).options
    found, standard = {}, kind()
    for one in fields(kind):
        least, greatest = one.metadata["range"]
        default = getattr(standard, one.name)
        found[one.name] = OptionRange(default, least, greatest, "switch" in one.metadata)
    return found


def make_policy(name: str, inputs: PolicyInputs) -> Policy:
    """Build a policy by exact name. Raises ValueError listing the valid names, or saying what is
    wrong with a policy of another package."""
    kind = _known(name)
    options = kind.options.parse(name, inputs.options)
    if name in _BUILT_IN:
        return kind.make(inputs, options)
    (offer,) = _OFFERED[name]
    try:
        policy = kind.make(inputs, options)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise ValueError(f"policy {name!r} of {offer.origin} cannot be made: {problem}") from error
    if policy.name != name:
        raise ValueError(f"policy {name!r} of {offer.origin} calls itself {policy.name!r}")
    return policy


def _known(name: str) -> PolicyKind:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    offers = _OFFERED.get(name, [])
    if not offers:
        raise ValueError(f"unknown policy {name!r}; valid: {', '.join(policy_names())}")
    if len(offers) > 1:
        origins = " and by ".join(offer.origin for offer in offers)
        raise ValueError(f"policy {name!r} is offered twice: by {origins}; rename or uninstall one")
    return offers[0].load()
