"""What is in force on this server? Told once when it starts, and under `in_force` in the status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scorpio.core.registry import policy_options
from scorpio.server.accounts.admin_token import TOKEN_VARIABLE
from scorpio.server.accounts.kill_switch import is_off
from scorpio.server.context import ServerContext
from scorpio.versions import versions

# vLLM says of every plug-in: "This scheduler interface is not public".
_PLUG_IN = (
    "vLLM's warning about a custom scheduler class is about this plug-in; the parts of vLLM that "
    "it stands on were checked at the start"
)


def in_force(server: ServerContext) -> dict[str, object]:
    """As configured at the start; the policy may be switched later."""
    settings = server.settings
    has_token = bool(server.environ.get(TOKEN_VARIABLE))
    return {
        "versions": versions(),
        "model": server.model_name,
        "engine": dict(server.facts),
        "engines": len(server.status.engines),
        "api_processes": server.shared.count,
        "policy": settings.policy,
        "policy_options": policy_options(settings.policy, settings.policy_options),
        "shadow": settings.shadow or "none",
        "classes": {
            name: entry.model_dump(mode="json", exclude_none=True)
            for name, entry in sorted(settings.classes.items())
        },
        "default_class": settings.default_class or "none",
        "tenants": len(settings.tenants),
        "api_keys": "of the SLO file, and vLLM's own"
        if server.terms.keys is not None
        else ("vLLM's own" if server.tokens else "none"),
        "latency_profile": _profile_in_force(server),
        "length_model": settings.length_model or "none: lengths are learned from traffic",
        "unsupported": settings.unsupported,
        "canary": "all requests are under the policy"
        if settings.canary >= 1.0
        else f"{settings.canary:.4g} of the requests are under the policy, the others as in stock",
        "turn_off": "no place for a file: no run_dir, no off_file"
        if (path := settings.off_path()) is None
        else f"touch {path}; PUT /scorpio/off; SIGUSR2"
        + ("; IT IS OFF NOW" if is_off(server) else ""),
        "admin": "on" if has_token else f"off: {TOKEN_VARIABLE} is not set",
        "status_page": f"/scorpio/, {_open_to(settings.open_status_page, has_token)}",
    }


def _profile_in_force(server: ServerContext) -> str:
    source, started = server.latency_source, server.settings.latency
    if not source:
        return "none: nothing is refused by prediction, until steps were seen"
    if started is None or source != str(started.get("source", "given")):
        return f"{source}; put in force since the start"
    return _profile(source, server.settings.latency_facts)


def _profile(source: str, facts: Mapping[str, str]) -> str:
    """Of what, how old, and how far off the steps that it was not fitted to."""
    if not facts:
        return source
    told = [f"{name} {facts[name]}" for name in ("model", "machine", "step_error") if name in facts]
    return f"{source}; measured {facts.get('created', 'at no known time')}: {', '.join(told)}"


def _open_to(all_may: bool, has_token: bool) -> str:
    if all_may:
        return "open to all"
    return f"for the holder of {TOKEN_VARIABLE}" if has_token else f"closed: no {TOKEN_VARIABLE}"


def told(facts: Mapping[str, object]) -> Iterator[str]:
    """For the log: one line each."""
    for name, value in facts.items():
        yield f"{name}: {_text(value)}"
    yield _PLUG_IN


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_nested(entry)}" for key, entry in value.items()) or "none"
    return str(value)


def _nested(value: object) -> str:
    return f"({_text(value)})" if isinstance(value, Mapping) else str(value)
