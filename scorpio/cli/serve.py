"""What does `scorpio serve` start? One engine in this process, or a fleet of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from scorpio.cli.errors import UsageError, one_line_errors
from scorpio.cli.parse import (
    check_options,
    check_policies,
    check_shadow,
    one_of,
    option_values,
)

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
POLICIES = (
    "edf, fairbatching, fcfs, mooncake, qoserve, qoserve+reject, scorpio, scorpio-paper, sjf,"
    " slidingserve"
)
FLEET = "Several engines"
PolicyOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME=NUMBER", help="an option of the policy")
]
Shadow = Annotated[
    str | None, typer.Option(help="a policy that watches and is not obeyed (docs/shadow.md)")
]
ShadowOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME=NUMBER", help="an option of the shadow")
]

ProfileMismatch = Annotated[
    str, typer.Option(help="a latency profile of another model: refuse, warn")
]
ProfileMode = Annotated[
    str, typer.Option(help="an engine that was never measured: auto = beside requests, off")
]
LengthModel = Annotated[
    str | None, typer.Option(metavar="DIR", help="of `scorpio train-length`; smollm2, none")
]
Unsupported = Annotated[
    str | None, typer.Option(help="features not supported: refuse, passthrough; refuse")
]
CanaryShare = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="share of the requests; the rest: stock")
]
Replicas = Annotated[
    int | None, typer.Option(min=1, help="so many engines, on Ray", rich_help_panel=FLEET)
]
MaxReplicas = Annotated[
    int | None,
    typer.Option(min=1, help="as promises need them, so many at most", rich_help_panel=FLEET),
]
MinReplicas = Annotated[
    int | None, typer.Option(min=1, help="never fewer; --replicas", rich_help_panel=FLEET)
]
TargetAttainment = Annotated[
    float | None,
    typer.Option(help="good requests in % that replicas are for; 97", rich_help_panel=FLEET),
]
Router = Annotated[
    str | None, typer.Option(help="which replica gets a request", rich_help_panel=FLEET)
]
FallbackModel = Annotated[
    str | None,
    typer.Option(
        help="a cheaper deployment beside it, for classes that may", rich_help_panel=FLEET
    ),
]
FallbackReplicas = Annotated[
    int | None, typer.Option(min=1, help="so many engines of it; 1", rich_help_panel=FLEET)
]
FallbackName = Annotated[
    str | None, typer.Option(help="under which it is served; its model", rich_help_panel=FLEET)
]
FallbackOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION", help="an option of its engines, one word", rich_help_panel=FLEET
    ),
]
RayAddress = Annotated[
    str | None, typer.Option(help="a cluster of Ray; local", rich_help_panel=FLEET)
]


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="smollm2, tiny, a directory or a Hub id; first")],
    policy: Annotated[str | None, typer.Option(help=f"one of {POLICIES}; scorpio")] = None,
    policy_option: PolicyOption = None,
    shadow: Shadow = None,
    shadow_option: ShadowOption = None,
    slo_config: Annotated[Path | None, typer.Option(help="TOML file with SLO classes")] = None,
    latency: Annotated[Path | None, typer.Option(help="latency.json of `scorpio profile`")] = None,
    profile_mismatch: ProfileMismatch = "refuse",
    profile: ProfileMode = "off",
    length_model: LengthModel = None,
    unsupported: Unsupported = None,
    canary: CanaryShare = None,
    run_dir: Annotated[Path | None, typer.Option(help="control and status files live here")] = None,
    replicas: Replicas = None,
    max_replicas: MaxReplicas = None,
    min_replicas: MinReplicas = None,
    target_attainment: TargetAttainment = None,
    fallback_model: FallbackModel = None,
    fallback_replicas: FallbackReplicas = None,
    fallback_name: FallbackName = None,
    fallback_option: FallbackOption = None,
    router: Router = None,
    ray_address: RayAddress = None,
) -> None:
    """Serve MODEL: vLLM's own OpenAI server with our scheduler. Any other option is passed on to
    vLLM as it is: scorpio serve smollm2 --port 8001"""
    with one_line_errors():
        options = _options(policy_option, shadow_option)
        check_policies([name for name in (policy, shadow) if name])
        check_options(policy, options["policy_options"], context.args)
        check_shadow(policy, shadow, options, context.args)
        _check_words(profile_mismatch, profile, unsupported or "refuse")
        followed = _Followed(max_replicas, min_replicas, target_attainment)
        fallback = _Fallback(fallback_model, fallback_replicas, fallback_name, fallback_option)
        _only_with(replicas, router, ray_address, followed, fallback)
        own: dict[str, Any] = {
            "policy": policy,
            "shadow": shadow,
            "latency": latency and latency.absolute(),
            "profile_mismatch": profile_mismatch,
            "profile": profile,
            "length_model": length_model,
            "unsupported": unsupported,
            "canary": canary,
        }
        if replicas is None:
            own |= options
            _serve_one(model, context.args, own | {"slo_config": slo_config, "run_dir": run_dir})
            return
        typed = _typed(own, policy_option, shadow_option)
        places = {"slo_config": slo_config, "run_dir": run_dir}
        asked = _asked(model, typed, context.args, replicas, router, places)
        asked |= followed.fields() | fallback.fields()
        _serve_fleet(asked, context.args, ray_address)


def _serve_one(model: str, vllm_args: Sequence[str], own: dict[str, Any]) -> None:
    from scorpio.server.launch.serve import serve as run_server

    run_server(model, vllm_args, **own)


def _options(
    policy_option: list[str] | None, shadow_option: list[str] | None
) -> dict[str, dict[str, float]]:
    return {
        "policy_options": option_values(policy_option or []),
        "shadow_options": option_values(shadow_option or [], "shadow option"),
    }


@dataclass(frozen=True, slots=True)
class _Followed:
    """How replicas follow promises; all None: they do not."""

    most: int | None
    least: int | None
    target_percent: float | None

    def fields(self) -> dict[str, object]:
        """Of `FleetSettings`."""
        share = None if self.target_percent is None else self.target_percent / 100.0
        named = {
            "max_replicas": self.most, "min_replicas": self.least, "target_attainment": share
        }  # fmt: skip
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Fallback:
    """The cheaper deployment; without a model there is none."""

    model: str | None
    replicas: int | None
    name: str | None
    options: list[str] | None

    def fields(self) -> dict[str, object]:
        """Of `FleetSettings`."""
        if self.model is None:
            return {}
        more = {"replicas": self.replicas, "name": self.name, "serve_args": self.options}
        said = {name: value for name, value in more.items() if value is not None}
        return {"fallback": {"model": self.model, **said}}


def _check_words(profile_mismatch: str, profile: str, unsupported: str) -> None:
    one_of("profile mismatch", profile_mismatch, ("refuse", "warn"))
    one_of("profile", profile, ("auto", "off"))
    one_of("unsupported", unsupported, ("refuse", "passthrough"))


def _only_with(
    replicas: int | None,
    router: str | None,
    ray_address: str | None,
    followed: _Followed,
    fallback: _Fallback,
) -> None:
    for name, given in (
        ("--router", router),
        ("--ray-address", ray_address),
        ("--max-replicas", followed.most),
        ("--fallback-model", fallback.model),
    ):
        if replicas is None and given is not None:
            raise UsageError(f"{name}: only with --replicas")
    for name, asked in (
        ("--fallback-replicas", fallback.replicas is not None),
        ("--fallback-name", fallback.name is not None),
        ("--fallback-option", bool(fallback.options)),
    ):
        if asked and fallback.model is None:
            raise UsageError(f"{name}: only with --fallback-model")
    percent = followed.target_percent
    for name, said in (
        ("--min-replicas", followed.least is not None),
        ("--target-attainment", percent is not None),
    ):
        if said and followed.most is None:
            raise UsageError(f"{name}: only with --max-replicas")
    if percent is not None and not 50.0 <= percent < 100.0:
        raise UsageError(f"--target-attainment: 50 to less than 100 %, got {percent:g}")


def _typed(
    options: Mapping[str, object], policy_option: list[str] | None, shadow_option: list[str] | None
) -> list[str]:
    """As a person types them."""
    given = {name: value for name, value in options.items() if value is not None}
    words = [w for n, value in given.items() for w in (f"--{n.replace('_', '-')}", str(value))]
    words += [f"--policy-option={option}" for option in policy_option or []]
    return words + [f"--shadow-option={option}" for option in shadow_option or []]


def _asked(
    model: str,
    own: Sequence[str],
    vllm_args: Sequence[str],
    replicas: int,
    router: str | None,
    places: Mapping[str, Path | None],
) -> dict[str, object]:
    """Fields of `FleetSettings`."""
    from scorpio.server.launch.typed import values_of, without

    asked: dict[str, object] = {
        "model": model,
        "replicas": replicas,
        "serve_args": [*own, *without(vllm_args, ("--host", "--port", "--shutdown-timeout"))],
        **{name: path and path.absolute() for name, path in places.items()},
    }
    if router is not None:
        asked["router"] = router
    if (drain_s := values_of(vllm_args).get("--shutdown-timeout")) is not None:
        asked["drain_s"] = drain_s
    return asked


def _serve_fleet(
    asked: dict[str, object], vllm_args: Sequence[str], ray_address: str | None
) -> None:
    from scorpio.fleet.command import LOCAL, serve_fleet
    from scorpio.fleet.settings import fleet_settings
    from scorpio.server.launch.mistakes import DEFAULT_PORT, check_early
    from scorpio.server.launch.typed import values_of

    settings = fleet_settings(asked)
    check_early(settings.model, vllm_args)
    if (one := settings.fallback) is not None:
        check_early(one.model, [*vllm_args, *one.serve_args])
    settings.read()
    given = values_of(vllm_args)
    port = int(given.get("--port", DEFAULT_PORT))
    serve_fleet(settings, given.get("--host"), port, ray_address or LOCAL, _say)


def _say(line: str) -> None:
    print(f"scorpio: {line}", file=sys.stderr, flush=True)
