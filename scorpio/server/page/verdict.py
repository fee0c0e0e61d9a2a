"""Are the promises kept, and is anything wrong? Attainment, error budgets, and what to do.

A burn rate is how many times faster than allowed the error budget of a class is used up; the two
pairs of windows are those of deploy/compose/alerts.yml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scorpio.channel import BY_HAND, ERRORS, FORECASTS, OVERRUN
from scorpio.server.state.history import counted_of
from scorpio.server.state.loose import mapping, number
from scorpio.settings import NO_CLASS

JUDGED = frozenset(("attainment", "burn", "budget", "problems"))  # what is said of the rest
FAST, SLOW = 14.4, 6.0  # burn rates that page, and that make a ticket
_STATES = {
    "stalled": ("the engine has work and makes no progress", "see /scorpio/health; restart it"),
    "dead": ("the engine has ended", "see vLLM's log"),
    "draining": ("the server is shutting down and takes no new requests", ""),
}
Problem = dict[str, str]


def judged(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of one or more servers, with what is to be said of it."""
    classes = {label: dict(entry) | _fared(entry) for label, entry in content["classes"].items()}
    whole = {name: _sum(content["classes"].values(), name) for name in ("5m", "all")}
    told = {**content, "classes": classes}
    return {
        **told,
        "attainment": {name: _attainment(counts) for name, counts in whole.items()},
        "good_per_s": round(sum(entry["good_per_s"] for entry in classes.values()), 3),
        "problems": list(_problems(told)),
    }


def _fared(entry: Mapping[str, Any]) -> dict[str, Any]:
    attained = {name: _attainment(counts) for name, counts in entry["windows"].items()}
    allowed = float(entry["allowed"])
    burn = {
        name: None if share is None else round((1.0 - share) / allowed, 2)
        for name, share in attained.items()
        if name != "all"
    }
    return {"attainment": attained, "burn": burn, "budget": _budget(burn)}


def _attainment(counts: Mapping[str, int]) -> float | None:
    """None: nothing has ended."""
    counted = counted_of(counts)
    return round(counts["good"] / counted, 4) if counted else None


def _budget(burn: Mapping[str, float | None]) -> str:
    if burn["6h"] is None:
        return "unused"
    five_minutes, hour, six_hours = (burn[name] or 0.0 for name in ("5m", "1h", "6h"))
    if hour > FAST and five_minutes > FAST:
        return "burns fast"
    if six_hours > SLOW and hour > SLOW:
        return "burns slowly"
    if five_minutes > FAST:
        return "burns now"
    return "over budget" if six_hours > 1.0 else "holds"


def _sum(entries: Any, window: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for entry in entries:
        for key, count in entry["windows"][window].items():
            total[key] = total.get(key, 0) + count
    return total or dict.fromkeys(("good", "finished", "rejected", "failed"), 0)


def _problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    """The worst first."""
    what, do = _STATES.get(content["server"]["state"], ("", ""))
    if what:
        yield _serious(what, do)
    for replica in content["server"].get("out", ()):  # of a fleet
        yield _notice(f"replica {replica}: it gets no new requests", "")
    for label, entry in content["classes"].items():
        if entry["budget"] == "burns fast":
            yield _serious(
                f"{_named(label)}: the error budget burns {_times(entry['burn']['1h'])} too fast",
                "refusals without misses mean more load than the engine serves in time: plan"
                " capacity",
            )
    yield from _of_policy(content["health"])
    for label, entry in content["classes"].items():
        burn = entry["burn"]
        if entry["budget"] == "burns slowly":
            yield _notice(
                f"{_named(label)}: for hours the error budget has burnt {_times(burn['6h'])} too"
                " fast",
                "plan capacity",
            )
        elif entry["budget"] == "burns now":
            yield _notice(
                f"{_named(label)}: in the last 5 minutes the error budget burnt"
                f" {_times(burn['5m'])} too fast; over an hour it holds",
                "",
            )
    yield from _of_monitoring(content)


_STOCK = "and is off for a while: steps are stock vLLM's"
_OPENED = {
    ERRORS: (
        f"the policy failed too often {_STOCK}",
        "read the kinds of errors below, report them",
    ),
    OVERRUN: (f"planning a step took too much of its time {_STOCK}", "see the runbook"),
    FORECASTS: (f"the policy's forecasts were far off {_STOCK}", "profile again"),
}


def _of_policy(health: Mapping[str, Any]) -> Iterator[Problem]:
    if health.get("policy_off") == BY_HAND:
        yield _serious(
            "the policy is off by hand: steps are stock vLLM's", "DELETE /scorpio/off turns it on"
        )
    elif health.get("breaker_open"):
        yield _serious(*_OPENED.get(str(health.get("policy_off")), _OPENED[ERRORS]))
    elif fallbacks := number(health.get("fallbacks")):
        yield _notice(
            f"the policy failed in {fallbacks:,.0f} steps: these were stock vLLM's",
            "read the kinds of errors below and report them",
        )
    if health.get("passthrough"):
        features = str(health.get("unsupported_features", ""))
        yield _notice(f"served as stock vLLM, which is asked for by: {features}", "see the limits")
    if error := health.get("control_error"):
        yield _serious(f"a switch of the policy failed: {error}", "ask for another one")
    elif number(health.get("requested_control_seq")) > number(health.get("control_seq")):
        yield _notice("a switch of the policy is not in force yet", "")
    if health.get("profile_alarm"):
        factor = number(health.get("profile_factor"))
        yield _notice(
            f"steps take {factor:.2g} times what the latency profile says", "profile again"
        )


def _of_monitoring(content: Mapping[str, Any]) -> Iterator[Problem]:
    health = content["health"]
    if not mapping(health).get("policy"):
        yield _notice("no engine has told its status yet", "a server needs a run_dir for it")
    if errors := number(health.get("monitoring_errors")) + number(health.get("page_errors")):
        yield _notice(
            f"monitoring failed {errors:,.0f} times; no decision depends on it", "is the disk full?"
        )
    if dropped := number(health.get("ledger_dropped")):
        yield _notice(f"{dropped:,.0f} lines of the ledger were dropped", "is the disk full?")


def _named(label: str) -> str:
    return "requests of no class" if label == NO_CLASS else f"class {label}"


def _times(burn: float) -> str:
    return f"{burn:.0f} times" if burn >= 10.0 else f"{burn:.1f} times"


def _serious(what: str, do: str) -> Problem:
    return {"grade": "serious", "what": what, "do": do}


def _notice(what: str, do: str) -> Problem:
    return {"grade": "notice", "what": what, "do": do}
