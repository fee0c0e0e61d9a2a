"""What is the scheduler doing, and who may change it? GET /scorpio/status, PUT /scorpio/policy,
PUT /scorpio/config. The third act is in accounts/kill_switch.py.

Reading is open, as /metrics is. Writing needs the bearer token of SCORPIO_ADMIN_TOKEN; without
that variable none can write. A switch takes effect in EngineCore's next step: `control_seq` in
the status says which one is on.
"""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.datastructures import QueryParams
from starlette.types import Scope

from scorpio import channel
from scorpio.core.registry import check_policy, policy_names
from scorpio.server.accounts.kill_switch import METHODS as OFF_METHODS
from scorpio.server.accounts.kill_switch import OFF_PATH, is_off
from scorpio.server.accounts.reload import reload_file, state, try_file
from scorpio.server.answers import Answer, error_answer, json_answer
from scorpio.server.context import ServerContext
from scorpio.server.state.budgets import budgets
from scorpio.server.state.in_force import in_force
from scorpio.settings import ScorpioSettings, SettingsError

STATUS_PATH = "/scorpio/status"
POLICY_PATH = "/scorpio/policy"
CONFIG_PATH = "/scorpio/config"
METHODS = {
    STATUS_PATH: ("GET",),
    POLICY_PATH: ("PUT",),
    CONFIG_PATH: ("PUT", "POST"),
    OFF_PATH: OFF_METHODS,
}
MAX_BODY_BYTES = 65_536
_KEYS = {"policy", "options", "record_steps"}


def wrong_method(path: str) -> Answer:
    """405 for an admin path."""
    allowed = ", ".join(METHODS[path])
    return error_answer(405, f"{path} takes {allowed}", headers={"allow": allowed})


def status_answer(server: ServerContext) -> Answer:
    """EngineCore's last published state plus what was asked of it. Of several engines: all
    together, and each."""
    run_dir = server.settings.run_dir
    control = None if run_dir is None else channel.read_control(run_dir)
    live, engines = server.status.read(), server.status.by_engine()
    content: dict[str, Any] = {
        "policy": server.settings.policy,
        "policy_options": server.settings.policy_options,
        "requested_policy": server.settings.policy if control is None else control.policy,
        "requested_control_seq": 0 if control is None else control.seq,
        "off_by_hand": is_off(server),
        "policies": list(policy_names()),
        "classes": sorted(server.terms.rules.book.classes),
        "default_class": server.settings.default_class,
        "engine_reported": live is not None,
        "engine": dict(server.facts),
        "in_force": in_force(server),
        "slo_config": state(server),
        "tenants": tenants(server),
        "error_budgets": budgets(server),
        "quotes": server.quotes.state(),
    }
    if len(server.status.engines) > 1:  # data-parallel ranks
        content["engines"] = {str(engine): state for engine, state in sorted(engines.items())}
    return json_answer(200, content | (live or {}))


def tenants(server: ServerContext) -> dict[str, Any]:
    """Of those in the SLO file: what they use, in all API processes."""
    in_flight = server.in_flight.of_account
    return {n: {"in_flight": in_flight(n), **use} for n, use in server.uses.state().items()}


def is_dry_run(scope: Scope) -> bool:
    """`?dry_run=true`: say what would change, and change nothing."""
    return QueryParams(scope.get("query_string", b"")).get("dry_run") == "true"


async def reload_config(server: ServerContext, dry_run: bool) -> Answer:
    """PUT or POST /scorpio/config: read the SLO file again."""
    if server.settings.slo_config is None:
        return error_answer(409, "no SLO file: start with --slo-config FILE")
    try:
        return json_answer(200, await (try_file if dry_run else reload_file)(server))
    except SettingsError as error:
        return error_answer(400, str(error), kind="BadRequestError")


def wished(answer: Answer) -> str:
    """What a PUT of a policy has asked for, as its answer says."""
    told = json.loads(answer.body)
    return f"{told['policy']} {json.dumps(told['options'])}" if answer.status == 200 else "refused"


def set_policy(server: ServerContext, raw: bytes) -> Answer:
    """PUT {"policy": NAME, "options": {NAME: number}}: ask EngineCore for another policy.

    Without "options" a policy gets its defaults, and the one the server was started with the
    options it was started with.
    """
    run_dir = server.settings.run_dir
    if run_dir is None:
        return error_answer(
            409, "no run_dir: start with `scorpio serve`, or put run_dir into additional_config"
        )
    try:
        wish = _parse(raw, server.settings)
    except ValueError as error:
        return error_answer(400, str(error), kind="BadRequestError")
    try:
        seq = channel.write_control(run_dir, wish["policy"], wish["options"], wish["record_steps"])
    except OSError as error:
        return error_answer(409, f"run_dir cannot be written: {error.strerror}")
    return json_answer(
        200,
        {
            "policy": wish["policy"],
            "options": wish["options"],
            "control_seq": seq,
            "note": "in force from the engine's next step; compare control_seq in the status",
        },
    )


def _parse(raw: bytes, settings: ScorpioSettings) -> dict[str, Any]:
    """The checked wish. Raises ValueError with what is allowed."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(body, dict) or not _KEYS.issuperset(body):
        raise ValueError(f"the body must be an object with keys out of {sorted(_KEYS)}")
    policy = body.get("policy")
    at_start = settings.policy_options if policy == settings.policy else {}
    options = body.get("options", at_start)
    if policy not in policy_names():
        raise ValueError(f"policy: unknown {policy!r}; valid: {', '.join(policy_names())}")
    if not isinstance(options, dict) or not all(_is_number(v) for v in options.values()):
        raise ValueError("options: must be an object of finite numbers")
    check_policy(policy, options)
    record_steps = body.get("record_steps", False)
    if not isinstance(record_steps, bool):
        raise ValueError("record_steps: must be true or false")
    return {"policy": policy, "options": options, "record_steps": record_steps}


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
