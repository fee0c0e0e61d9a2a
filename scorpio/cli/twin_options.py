"""What may be said about the twin's engine, policies, noise and clients? The same for all commands.

A command takes the options below by their types, and hands them to `twin_options`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorpio.cli.errors import UsageError

if TYPE_CHECKING:
    from scorpio.twin.clients import ClientSpec
    from scorpio.twin.gpu.noise import NoiseSpec
    from scorpio.twin.modelled_engine import EngineOptions

EngineOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE,...", help="twin: flags of vLLM, as max_num_seqs=64"),
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="POLICY.NAME=NUMBER,...", help="twin: options of the policies"),
]
Noise = Annotated[
    str | None,
    typer.Option(
        metavar="SIGMA|NAME=VALUE,...", help="twin: scatter of steps; 0.03 with rare stalls"
    ),
]
ProfileBias = Annotated[
    float, typer.Option(metavar="X", help="twin: policies take all for X times as slow as it is")
]
Retries = Annotated[
    int, typer.Option(metavar="N", help="twin: a refused request is sent again, N times at most")
]
GiveUpS = Annotated[
    float | None, typer.Option(metavar="S", help="twin: clients leave S seconds after they asked")
]

Clients = Annotated[
    int, typer.Option(metavar="N", help="twin: a closed loop of N clients; one per request")
]
LogDecisions = Annotated[
    bool, typer.Option("--log-decisions", help="twin: keep why, for `scorpio explain DIR N`")
]


@dataclass(frozen=True, slots=True)
class TwinOptions:
    """Checked, and in the twin's own values; without any, all is as it is by default."""

    engine: EngineOptions = field(default_factory=dict)
    policies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    noise: NoiseSpec | None = None
    profile_bias: float = 1.0
    clients: ClientSpec | None = None

    def refuse_beside(self, engine: str) -> None:
        """A real engine has its own flags, noise and clients. Raises UsageError."""
        if self != BY_DEFAULT:
            raise UsageError(
                "--engine-option, --policy-option, --noise, --profile-bias, --retries, --give-up-s"
                f" and --clients are of --engine twin, not {engine}"
            )

    def for_spec(self) -> dict[str, Any]:
        """What was said, as fields of `CompareSpec`."""
        found: dict[str, Any] = {
            "engine_options": self.engine,
            "policy_options": self.policies,
            "profile_bias": self.profile_bias,
        }
        given = {"noise": self.noise, "clients": self.clients}
        return found | {name: value for name, value in given.items() if value is not None}


BY_DEFAULT = TwinOptions()


def twin_options(
    policies: Sequence[str],
    engine_option: Sequence[str] | None = None,
    policy_option: Sequence[str] | None = None,
    noise: str | None = None,
    profile_bias: float = 1.0,
    retries: int = 0,
    give_up_s: float | None = None,
    clients: int = 0,
) -> TwinOptions:
    """The words of a command line; policies: those that it runs.

    Raises UsageError and WorkloadError.
    """
    if not 0.0 < profile_bias < 100.0:
        raise UsageError(f"--profile-bias: must be in (0, 100), got {profile_bias:g}")
    return TwinOptions(
        engine_options(engine_option or ()),
        _policies(policies, policy_option or ()),
        None if noise is None else _noise(noise),
        profile_bias,
        _clients(retries, give_up_s, clients),
    )


def engine_options(texts: Sequence[str]) -> EngineOptions:
    """`NAME=VALUE,...` texts of --engine-option. Raises UsageError and WorkloadError."""
    from scorpio.twin.modelled_engine import engine_option

    return {name: engine_option(name, text) for name, text in _pairs("--engine-option", texts)}


def _policies(names: Sequence[str], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    from scorpio.twin.systems import check_system

    found: dict[str, dict[str, float]] = {}
    for where, text in _pairs("--policy-option", texts):
        policy, dot, name = where.partition(".")
        if not dot or policy not in names:
            raise UsageError(
                f"--policy-option {where}={text}: say POLICY.NAME=NUMBER, with POLICY one of"
                f" {', '.join(names)}"
            )
        found.setdefault(policy, {})[name] = _number(f"--policy-option {where}", text)
    for policy, options in found.items():
        try:
            check_system(policy, options)
        except ValueError as error:
            raise UsageError(f"--policy-option: {error}") from None
    return found


def _noise(text: str) -> NoiseSpec:
    from scorpio.twin.gpu.noise import NO_NOISE, NoiseSpec

    if text == "none":
        return NO_NOISE
    pairs = _pairs("--noise", [text if "=" in text else f"sigma={text}"])
    given = {name: _number(f"--noise {name}", value) for name, value in pairs}
    valid = [one.name for one in fields(NoiseSpec)]
    if unknown := [name for name in given if name not in valid]:
        raise UsageError(f"--noise: no '{unknown[0]}'; valid: none, {', '.join(valid)}")
    try:
        return NoiseSpec(**given)
    except ValueError as error:
        raise UsageError(f"--noise: {error}") from None


def _clients(retries: int, give_up_s: float | None, clients: int) -> ClientSpec | None:
    from scorpio.twin.clients import ClientSpec

    if not retries and give_up_s is None and not clients:
        return None
    try:
        return ClientSpec(retries, math.inf if give_up_s is None else give_up_s, clients)
    except ValueError as error:
        raise UsageError(f"--retries, --give-up-s, --clients: {error}") from None


def _pairs(option: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The parts of `A=1,B=2`, each once."""
    seen = set()
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, sign, value = (word.strip() for word in part.partition("="))
        if not (name and sign and value):
            raise UsageError(f"{option}: '{part}' must be NAME=VALUE")
        if name in seen:
            raise UsageError(f"{option}: {name} is given twice")
        seen.add(name)
        yield name, value


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{what}: '{text}' is not a number") from None
