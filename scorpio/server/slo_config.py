"""Which SLO classes does this server offer? The operator's TOML file (`--slo-config FILE`).

default_class = "standard"          # optional; without it a request without SLO has none
rejection_status = 429              # or 503
least_ttft_ms = 100                 # optional; a request for less is answered 400
least_tpot_ms = 30                  # optional; the same
client_on_miss = ["reject", "degrade", "wait"]   # what a request itself may choose
most_choices = 128                  # the largest `n` or `best_of`
trust_fairness_id = false           # true: the gateway in front sets that header, not the client
isolate_cache = false               # true: no tenant finds another's prompts in the prefix cache
most_in_flight = 65536              # engine requests at once in this API process, else 429
most_in_flight_per_key = 16384      # of one API key
most_waiting = 32768                # requests that wait in the engine, else 429
most_waiting_tokens = 67108864      # their prompt tokens, else 429
most_in_flight_per_tenant = 16384   # requests of one tenant in the engine, else 429 over_quota
most_body_mib = 64                  # of one request body, else 413
most_held_mib = 1024                # of all request bodies in flight, else 429
open_status_page = false            # true: the data of /scorpio/ need no admin token
ledger_mib = 64                     # of the decision ledger of each engine; 0: none is kept
stall_s = 15                        # /scorpio/health is 503 when work makes no progress so long

[classes.interactive]               # all objectives optional, in milliseconds
ttft_ms = 500
tpot_ms = 50
e2el_ms = 20000
on_miss = "reject"                  # reject | degrade | wait
value = 4                           # of a kept promise; others count 1

[service_tiers]                     # OpenAI `service_tier` -> class
priority = "interactive"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from scorpio.settings import CONFIG_KEY, SettingsError, load_settings

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
    "open_status_page",
    "ledger_mib",
    "stall_s",
)


def read_slo_config(path: Path) -> dict[str, Any]:
    """The file as settings, checked.

    Raises:
        SettingsError: unreadable, not TOML, or a wrong field; the message names file and field.
    """
    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    if unknown := sorted(set(raw) - set(KEYS)):
        raise SettingsError(f"{path}: unknown field {unknown[0]!r}; valid: {', '.join(KEYS)}")
    try:
        settings = load_settings({CONFIG_KEY: raw})
    except SettingsError as error:
        raise SettingsError(f"{path}: {str(error).replace(f'{CONFIG_KEY}.', '')}") from None
    for tier, name in raw.get("service_tiers", {}).items():
        if name not in settings.classes:
            valid = ", ".join(sorted(settings.classes)) or "none are configured"
            raise SettingsError(
                f"{path}: service_tiers.{tier}: {name!r} is not a class; valid: {valid}"
            )
    return raw
