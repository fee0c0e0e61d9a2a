"""Which SLO classes does this server offer? The operator's TOML file (`--slo-config FILE`).

default_class = "standard"          # optional; without it a request without SLO has none
rejection_status = 429              # or 503
least_ttft_ms = 100                 # optional; a request for less is answered 400
least_tpot_ms = 30                  # optional; the same
client_on_miss = ["reject", "degrade", "wait"]   # what a request itself may choose
most_choices = 128                  # the largest `n` or `best_of`
trust_fairness_id = false           # true: the gateway in front sets that header, not the client
isolate_cache = false               # true: no tenant finds another's prompts in the prefix cache
most_in_flight = 65536              # engine requests at once in this server, else 429
most_in_flight_per_key = 16384      # of one API key
most_waiting = 32768                # requests that wait in the engine, else 429
most_waiting_tokens = 67108864      # their prompt tokens, else 429
most_in_flight_per_tenant = 16384   # requests of one tenant in the engine, else 429 over_quota
most_body_mib = 64                  # of one request body, else 413
most_held_mib = 1024                # of all request bodies in flight, else 429
most_connections = 50000            # in this API process; unset: 9 in 10 of its descriptors
most_connections_per_address = 500  # unset: as many as there may be in all
most_header_kib = 256               # all headers of one request, else 431
most_header_s = 60                  # for a header to come, else the connection is closed
most_body_s = 600                   # for a body to come, else 408
most_unread_s = 60                  # without reading what is sent, else the connection is closed
most_request_s = 0                  # of one request, else 504 or an error event; 0: any
open_status_page = false            # true: the data of /scorpio/ need no admin token
ledger_mib = 64                     # of the decision ledger of each engine; 0: none is kept
stall_s = 15                        # /scorpio/health is 503 when work makes no progress so long
raw_slo = "any"                     # SLOs as numbers: any | looser (than the class) | none
tight_ttft_ms = 500                 # a request is tight when its TTFT (or end to end) SLO is that
tight_tpot_ms = 50                  # or less, or its TPOT SLO is this or less

[classes.interactive]               # all objectives optional, in milliseconds
ttft_ms = 500
tpot_ms = 50
e2el_ms = 20000
on_miss = "reject"                  # reject | degrade | wait
value = 4                           # of a kept promise; others count 1
target = 0.99                       # share of its requests that are to keep their SLO
fallback = "model-fp8"              # a cheaper deployment of the fleet, when the first cannot
fallback_share = 0.2                # of its requests, the most that are served there; else all

[tenants.acme]                      # all optional (docs/tenants.md)
keys = ["sha256:..."]               # lines of `scorpio hash-key`
weight = 3                          # of its share inside a class
classes = ["interactive"]           # that it may use
default_class = "interactive"       # of a request that names none
raw_slo = "looser"                  # as above; looser where `classes` are listed
rate_tokens_per_s = 5000            # prompt and output
burst_tokens = 300000               # 60 s of the rate
most_in_flight = 64
most_tight = 8

[service_tiers]                     # OpenAI `service_tier` -> class
priority = "interactive"
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scorpio.server.accounts.toml_lines import line_of
from scorpio.settings import Problem, ScorpioSettings, SettingsError, problems

MOST_BYTES = 16 << 20  # of the file
MOST_KEYS = 65_536  # API keys of all tenants
ONLY_FLEETS = "no effect on one engine; the front of a fleet with --fallback-model goes by it"
KEYS = (
    "classes",
    "default_class",
    "service_tiers",
    "rejection_status",
    "least_ttft_ms",
    "least_tpot_ms",
    "client_on_miss",
    "most_choices",
    "trust_fairness_id",
    "isolate_cache",
    "most_in_flight",
    "most_in_flight_per_key",
    "most_waiting",
    "most_waiting_tokens",
    "most_in_flight_per_tenant",
    "most_body_mib",
    "most_held_mib",
    "most_connections",
    "most_connections_per_address",
    "most_header_kib",
    "most_header_s",
    "most_body_s",
    "most_unread_s",
    "most_request_s",
    "open_status_page",
    "ledger_mib",
    "stall_s",
    "raw_slo",
    "tight_ttft_ms",
    "tight_tpot_ms",
    "tenants",
)


@dataclass(frozen=True, slots=True)
class SloFile:
    """One reading of the file. table: its fields. digest: the SHA-256 of its text."""

    path: Path
    text: str
    table: Mapping[str, Any]
    settings: ScorpioSettings
    digest: str


def read_slo_config(path: Path) -> dict[str, Any]:
    """The file as settings, checked.

    Raises:
        SettingsError: unreadable, not TOML, or a wrong field; the message names file and field.
    """
    return dict(read_slo_file(path).table)


def read_slo_file(path: Path, base: Mapping[str, Any] | None = None) -> SloFile:
    """The file, checked. base: settings beside it that are not the file's.

    Raises:
        SettingsError: as above.
    """
    return slo_file_of(path, _raw(path), base)


def slo_file_of(path: Path, raw: bytes, base: Mapping[str, Any] | None = None) -> SloFile:
    """What was read from there, or by another process.

    Raises:
        SettingsError: not TOML, or a wrong field.
    """
    text = raw.decode(errors="replace")
    try:
        table = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # an integer of 5,000 digits is no TOML error
        raise SettingsError(f"{path}: not TOML: {error}") from None
    if unknown := sorted(set(table) - set(KEYS)):
        said = f"unknown field {unknown[0]!r}; valid: {', '.join(KEYS)}"
        raise SettingsError(_told(path, text, [Problem((unknown[0],), said)]))
    others = {name: value for name, value in (base or {}).items() if name not in KEYS}
    try:
        settings = ScorpioSettings.model_validate(others | table)
    except ValidationError as error:
        raise SettingsError(_told(path, text, problems(error))) from None
    if wrong := [*_unknown_tiers(table, settings), *_too_many_keys(settings)]:
        raise SettingsError(_told(path, text, wrong))
    return SloFile(path, text, table, settings, hashlib.sha256(raw).hexdigest())


def _raw(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise SettingsError(f"{path}: larger than {MOST_BYTES >> 20} MiB")
    return raw


def _unknown_tiers(table: Mapping[str, Any], settings: ScorpioSettings) -> list[Problem]:
    valid = ", ".join(sorted(settings.classes)) or "none are configured"
    return [
        Problem(("service_tiers", tier), f"{name!r} is not a class; valid: {valid}")
        for tier, name in table.get("service_tiers", {}).items()
        if name not in settings.classes
    ]


def _too_many_keys(settings: ScorpioSettings) -> list[Problem]:
    count = sum(len(tenant.keys) for tenant in settings.tenants.values())
    return [Problem(("tenants",), f"more than {MOST_KEYS} keys")] if count > MOST_KEYS else []


def _told(path: Path, text: str, found: list[Problem]) -> str:
    """All problems in one line, each with its own line in the file."""
    told = []
    for problem in found:
        # Of what no field shows by itself the sentence begins with the field.
        field = problem.field or tuple(problem.said.split()[0].rstrip(":").split("."))
        number = line_of(text, field)
        at = "" if number is None else f"line {number}: "
        told.append(at + (problem.told() if problem.field else problem.said))
    return f"{path}: {'; '.join(told)}"
