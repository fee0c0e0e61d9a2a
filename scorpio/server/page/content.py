"""What does the status page show of this server? Numbers that add up over engines and replicas.

Made so that `merged` (merged_status.py) makes one of several: counts and curves add up (curves have
their newest place first), of what warns the worst counts, and text is the first one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scorpio import channel
from scorpio.core.plan import RejectReason
from scorpio.ledger.entry import Entry
from scorpio.server.context import ServerContext
from scorpio.server.page.recent import told
from scorpio.server.state.health import health_state
from scorpio.server.state.history import WINDOWS_S, History, kv_held_tokens
from scorpio.server.state.loose import mapping, number
from scorpio.server.state.merged_status import merged
from scorpio.settings import ClassSettings

# Of the status of all engines together, as it is.
_HEALTH = (
    *("policy", "policy_version", "control_seq", "control_error", "fallbacks", "breaker_open"),
    *(
        "breaker_opened",
        "breakers_opened",
        "policy_off",
        "canary_share",
        "passthrough",
        "unsupported_features",
        "paused",
        "steps",
        "stock_steps",
    ),
    *("planned_steps", "filled_steps", "profile_alarm"),
    *("profile_factor", "monitoring_errors", "faults", "ledger_lines", "ledger_dropped"),
)


ERROR_BUDGET = "0.01"  # share of a class that may be refused, fail or miss; text does not add up
FORM = "1"  # of the content; a fleet's front puts together what has its own form
_COUNTED = (("forecasts", "forecasts"), ("exceeded", "forecasts_exceeded"))


def page_content(
    server: ServerContext, entries: Sequence[Entry], now_unix_s: float
) -> dict[str, Any]:
    """Of one server. entries: its last requests. Without what is judged of it (verdict.py)."""
    history = server.history
    engines = server.status.by_engine()
    rows = [_engine(i, engines.get(i)) for i in server.status.engines]
    state = merged(list(engines.values())) if engines else {}
    windows = _windows(server, history, state)
    return {
        "form": FORM,
        "at_unix_s": now_unix_s,
        "since_s": round(history.since_s),
        "server": {
            "model": server.model_name,
            "state": health_state(server),
            "of": "1 engine" if len(rows) == 1 else f"{len(rows)} engines",
        },
        "classes": {
            label: {
                "asks": asks(server.settings.classes.get(label)),
                "allowed": _allowed(server.settings.classes.get(label)),
                "good_per_s": history.good_per_s(label),
                "windows": counts,
                "curve": history.curve_of(label),
            }
            for label, counts in windows.items()
        },
        "refusals": _refusals(windows),
        "now": {
            "running": number(state.get("running")),
            "waiting": number(state.get("waiting")),
            "waiting_prompt_tokens": number(state.get("waiting_prompt_tokens")),
            "seats": sum(row["seats"] for row in rows),
            "kv_tokens": sum(row["kv_tokens"] for row in rows),
            "kv_held_tokens": sum(row["kv_held_tokens"] for row in rows),
        },
        "curves": history.curves(),
        "forecasts": _forecasts(state),
        "canary": _canary(state),
        "health": {key: state[key] for key in _HEALTH if key in state}
        | {
            "schedule_us": _quantiles(state.get("schedule_us")),
            "requested_control_seq": _requested(server),
            "page_errors": history.errors,
        },
        "ledger": "kept" if _has_ledger(server) else "not kept",
        "profile": "given" if server.latency_source else "none",
        "engines": rows,
        "recent": told(entries),
    }


def asks(entry: ClassSettings | None) -> str:
    """What a class promises, for people."""
    if entry is None:
        return "no promise of its own"
    named = (("TTFT", entry.ttft_ms), ("TPOT", entry.tpot_ms), ("end to end", entry.e2el_ms))
    stated = [f"{name} {ms:,g} ms" for name, ms in named if ms is not None]
    target = "" if entry.target is None else f"; target {entry.target:.6g}"
    return f"{', '.join(stated) or 'no objective'}; {entry.on_miss.value}{target}"


def _allowed(entry: ClassSettings | None) -> str:
    if entry is None or entry.target is None:
        return ERROR_BUDGET
    return f"{1.0 - entry.target:.6g}"


def _engine(number_of_it: int, state: Mapping[str, Any] | None) -> dict[str, Any]:
    known = state or {}
    facts = mapping(known.get("replica"))
    how = "no status yet"
    if known:
        how = "working" if number(known.get("unfinished")) else "idle"
        for key in ("paused", "breaker_open", "passthrough"):
            how = key.replace("_", " ") if known.get(key) else how
        how = "off by hand" if known.get("policy_off") == channel.BY_HAND else how
    return {
        "name": str(number_of_it),
        "state": how,
        "policy": str(known.get("policy", "")),
        "running": number(known.get("running")),
        "waiting": number(known.get("waiting")),
        "seats": number(facts.get("max_num_seqs")),
        "kv_tokens": number(facts.get("kv_tokens")),
        "kv_held_tokens": kv_held_tokens(known),
        "heard_unix_s": number(known.get("heartbeat_unix_s")),
    }


def _windows(
    server: ServerContext, history: History, state: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, int]]]:
    """By class: those of the settings, and others that have been counted."""
    settings = server.settings
    configured = [*settings.classes, settings.unnamed_class]
    labels = dict.fromkeys([*configured, *mapping(state.get("by_class"))])
    found = {label: history.windows(label) for label in labels}
    # a server with classes has no row for requests without one, until there are such requests
    unused = settings.unnamed_class if settings.classes else ""
    return {
        label: windows
        for label, windows in found.items()
        if label != unused or label in settings.classes or any(windows["all"].values())
    }


def _refusals(windows: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    by_reason: dict[str, dict[str, int]] = {}
    for reason in (r.value for r in RejectReason):
        row = {
            name: sum(windows[label][name].get(reason, 0) for label in windows)
            for name in (*WINDOWS_S, "all")
        }
        if row["all"]:
            by_reason[reason] = row
    return by_reason


def _forecasts(state: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Times of requests: forecast at admission against what came; of steps: the profile's."""
    found: dict[str, dict[str, float]] = {}
    counted = [mapping(entry) for entry in mapping(state.get("by_class")).values()]
    for kind in ("ttft", "tpot"):
        found[kind] = {
            **{
                key: sum(number(mapping(c.get(of)).get(kind)) for c in counted)
                for key, of in _COUNTED
            },
            **_quantiles(mapping(state.get("forecast_error")).get(kind)),
        }
    found["step"] = _quantiles(state.get("step_error"))
    return found


def _canary(state: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """By class and by who decided: how many requests were good, and of how many. Empty without a
    canary."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for arm, classes in mapping(state.get("canary")).items():
        for label, entry in mapping(classes).items():
            counts = mapping(mapping(entry).get("outcomes"))
            ended = sum(number(counts.get(how)) for how in ("finished", "rejected", "failed"))
            good = number(mapping(entry).get("good"))
            found.setdefault(label, {})[arm] = {"good": good, "ended": ended}
    return found


def _quantiles(told: object) -> dict[str, float]:
    return {key: number(mapping(told).get(key)) for key in ("p50", "p99")}


def _requested(server: ServerContext) -> int:
    run_dir = server.settings.run_dir
    control = None if run_dir is None else channel.read_control(run_dir)
    return 0 if control is None else control.seq


def _has_ledger(server: ServerContext) -> bool:
    return server.settings.run_dir is not None and server.settings.ledger_mib > 0
