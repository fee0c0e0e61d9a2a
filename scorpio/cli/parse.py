"""Are these words valid? Lists and names of the command line, checked before anything is done."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from scorpio.cli.errors import UsageError

if TYPE_CHECKING:
    from workloads.traces.reading import Reading

T = TypeVar("T")
_SETTINGS_ARGS = ("--additional-config", "--additional_config", "--config")


def one_of(what: str, name: str, valid: Iterable[str]) -> str:
    """`name`, when it is valid. Raises UsageError naming what is."""
    names = sorted(valid)
    if name not in names:
        raise UsageError(f"unknown {what} '{name}'; valid: {', '.join(names)}")
    return name


def check_policies(names: Iterable[str]) -> None:
    """Raises UsageError on a name that no policy has, or one of a package that is broken."""
    from scorpio.core.registry import check_policy
    from scorpio.policy_packages import all_policies

    for name in names:
        one_of("policy", name, all_policies())
        try:
            check_policy(name, {})
        except ValueError as error:
            raise UsageError(str(error)) from None


def check_options(
    policy: str | None, options: Mapping[str, float], vllm_args: Iterable[str]
) -> None:
    """Raises UsageError on an option that the policy does not take, before vLLM is loaded.

    Without `--policy` it is the default one, unless vLLM's own arguments may name another: those
    are looked at when vLLM has parsed them.
    """
    from scorpio.core.registry import DEFAULT_POLICY, check_policy
    from scorpio.policy_packages import all_policies

    if policy is None and any(arg.startswith(_SETTINGS_ARGS) for arg in vllm_args):
        return
    all_policies()
    try:
        check_policy(policy or DEFAULT_POLICY, options)
    except ValueError as error:
        raise UsageError(str(error)) from None


def check_shadow(
    policy: str | None,
    shadow: str | None,
    options: Mapping[str, Mapping[str, float] | None],
    vllm_args: Iterable[str],
) -> None:
    """Raises UsageError on a shadow that has nothing to say, or an option that it does not take.
    options: `policy_options` and `shadow_options`. As above, without `--policy` it is the default
    one."""
    from scorpio.core.registry import DEFAULT_POLICY
    from scorpio.settings import check_shadow as check

    named_elsewhere = policy is None and any(a.startswith(_SETTINGS_ARGS) for a in vllm_args)
    serving = "" if named_elsewhere else policy or DEFAULT_POLICY
    try:
        check(serving, options["policy_options"] or {}, shadow, options["shadow_options"] or {})
    except ValueError as error:
        raise UsageError(f"--shadow: {error}") from None


def settled_mix(trace: str, mix: str | None) -> str:
    """`mix`, or what the trace is used with. Raises UsageError for a file without one: SLOs dealt
    at random would be an answer to another question."""
    from workloads.mixes import mix_names
    from workloads.named import default_mix

    found = mix if mix is not None else default_mix(trace)
    if found is None:
        raise UsageError(
            f"--mix: which SLOs do the requests of {trace} have? trace = as its rows state them,"
            f" FILE.toml = the classes that they name, or one of {', '.join(mix_names())}"
        )
    return found


def reading_of(
    time_unit: str | None, block_tokens: int | None, spread_tick_s: float, columns: str | None
) -> Reading:
    """How a trace file is to be read: --time-unit, --block-tokens, --spread-tick-s, --map. Raises
    WorkloadError."""
    from workloads.traces.reading import Reading, parse_columns

    return Reading(time_unit, block_tokens, spread_tick_s, parse_columns(columns))


def listed(what: str, text: str, parse: Callable[[str], T]) -> list[T]:
    """`A,B,C` -> parsed values, each once. Raises UsageError."""
    values: list[T] = []
    for part in text.split(","):
        try:
            values.append(parse(part.strip()))
        except ValueError:
            raise UsageError(f"{what} '{part.strip()}' is not valid in '{text}'") from None
    if len(set(values)) != len(values):
        raise UsageError(f"{what} is named twice in '{text}'")
    return values


def parse_rate(text: str) -> float:
    """A rate scale. Raises ValueError unless finite and > 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(text)
    return value


def parse_seed(text: str) -> int:
    """A seed. Raises ValueError unless >= 0."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def option_values(texts: Iterable[str], what: str = "policy option") -> dict[str, float]:
    """`NAME=NUMBER` texts. Raises UsageError."""
    given, options = list(texts), dict[str, float]()
    for text in given:
        name, sign, value = text.partition("=")
        try:
            if not name or not sign:
                raise ValueError
            options[name] = float(value)
        except ValueError:
            raise UsageError(f"{what} '{text}' must be NAME=NUMBER") from None
    if len(options) < len(given):
        raise UsageError(f"a {what} is given twice")
    return options


def command_line() -> str:
    """The command as it was typed, to be shown next to its numbers."""
    return shlex.join(["scorpio", *sys.argv[1:]])
