"""What is one scene of a rehearsal: what was done, what was seen, and did its alert fire?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.engine_server import ADMIN_TOKEN, EngineServer

ALERTS = Path(__file__).parents[2] / "deploy/compose/alerts.yml"
BEARER = {"authorization": f"Bearer {ADMIN_TOKEN}"}
# Alerts over a time need a Prometheus and hours; the others are one comparison of one metric.
_AT_ONCE = re.compile(r"^(\w+)(\{[^}]*\})? (==|>) ([\d.]+)$")


@dataclass(slots=True)
class Seen:
    """done: one line each; seen: as the server said it; alert: its name, "" where there is none."""

    title: str
    done: str
    seen: list[str] = field(default_factory=list)
    alert: str = ""
    fired: str = ""


Scene = Callable[[EngineServer], Seen]


def metrics(server: EngineServer) -> dict[str, float]:
    """One scrape: value by name and labels, as in the text."""
    text = server.call("GET", "/metrics")[2].decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, value in lines}


def series(server: EngineServer, name: str, **labels: str) -> dict[str, float]:
    """Those of this metric that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return {
        key: value
        for key, value in metrics(server).items()
        if key.partition("{")[0] == name and all(want in key for want in wanted)
    }


def rules() -> dict[str, str]:
    """Expression of each alert, on one line."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {
        rule["alert"]: " ".join(rule["expr"].split())
        for group in groups
        for rule in group["rules"]
        if "alert" in rule
    }


def fires(server: EngineServer, alert: str) -> str:
    """Is it active at this scrape? "yes" and "no"; else why it cannot be said."""
    found = _AT_ONCE.match(rules()[alert].partition(" and ")[0])
    if found is None:
        return "over minutes: not evaluated here"
    name, labels, how, limit = found.groups()
    wanted = dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))
    values = series(server, name, **wanted).values()
    active = any(v > float(limit) if how == ">" else v == float(limit) for v in values)
    return "yes" if active else "no"


def metric_lines(server: EngineServer, name: str, **labels: str) -> list[str]:
    """As in the text of /metrics."""
    return [f"{key} {value:g}" for key, value in series(server, name, **labels).items()]


def status_lines(server: EngineServer, *names: str) -> list[str]:
    """`name: value` of the status."""
    status = server.status()
    return [f"{name}: {status.get(name)!r}" for name in names]
