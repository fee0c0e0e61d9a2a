"""What does a real Prometheus make of a live server, of the dashboard's queries and of alerts?

deploy/compose's own prometheus.yml and rules; only addresses are replaced.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scorpio.live.host.process import ServerProcess, free_port
from tests.engine_server import EngineServer
from tests.rehearsal.scene import ALERTS, Seen

COMPOSE = ALERTS.parent
BOARD = COMPOSE / "grafana/dashboards/scorpio.json"
NEEDED = "prometheus"
WITHOUT = "left out: there is no prometheus here (Debian: apt install prometheus)"
START_S = 60.0
# Two scrapes make a rate: a title of the dashboard that has no number all the same, and why.
MAY_BE_EMPTY: dict[str, str] = {}
MUST_BE_ACTIVE = {  # after the acts before it; the last one waits for ten minutes
    ("ScorpioClassBudgetBurnsFast", "firing"),
    ("ScorpioErrorBudgetBurnsFast", "firing"),
    ("ScorpioProfileAlarm", "pending"),
}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that scrapes a server."""

    url: str
    process: ServerProcess

    def get(self, path: str, **query: str) -> Any:
        """Raises AssertionError with what Prometheus says of a bad question."""
        try:
            asked = f"{self.url}{path}?{urllib.parse.urlencode(query, doseq=True)}"
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query}: {error.read().decode()}") from None

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples, now."""
        return list(self.get("/api/v1/query", query=query)["result"])

    def values(self, label: str, of: str) -> list[str]:
        """What Grafana asks for `label_values(of, label)`."""
        return list(self.get(f"/api/v1/label/{label}/values", **{"match[]": of}))


@contextlib.contextmanager
def watching(directory: Path, server: EngineServer) -> Iterator[Prometheus | None]:
    """A Prometheus beside this server; None where there is none on this machine."""
    if shutil.which(NEEDED) is None:
        yield None
        return
    directory.mkdir(parents=True, exist_ok=True)
    text = (COMPOSE / "prometheus.yml").read_text()
    for name, real in (
        ("server:8000", server.url.removeprefix("http://")),
        ("/etc/prometheus/alerts.yml", str(ALERTS)),
    ):
        assert name in text
        text = text.replace(name, real)
    config = directory / "prometheus.yml"
    config.write_text(text)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        *(NEEDED, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"),
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    with ServerProcess(command, url, directory / "prometheus.log") as process:
        prometheus = Prometheus(url, process)
        _wait_ready(prometheus)
        yield prometheus


def _wait_ready(prometheus: Prometheus) -> None:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        prometheus.process.check_alive()
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=5).close()
            return
        time.sleep(0.2)
    pytest.fail("prometheus is not ready")


def dashboard(server: EngineServer, prometheus: Prometheus | None) -> Seen:
    """Every variable and query of the dashboard, and the alerts that were active meanwhile."""
    seen = Seen(
        "The dashboard and the alerts, on a real Prometheus",
        "deploy/compose's prometheus.yml and alerts.yml, scraping this server since the first act",
    )
    if prometheus is None:
        seen.seen.append(WITHOUT)
        return seen
    board = json.loads(BOARD.read_text())
    wanted = [
        (panel["title"], target["legendFormat"], target["expr"])
        for panel in board["panels"]
        for target in panel["targets"]
    ]
    chosen = _variables(prometheus, board["templating"]["list"])
    seen.seen += [f"variable {name}: {values}" for name, values in chosen.items()]
    for title, legend, query in wanted:
        found = _numbers(server, prometheus, _substituted(query, chosen), title)
        told = f"{len(found)} series" if found else f"no number: {MAY_BE_EMPTY[title]}"
        seen.seen.append(f"{title} ({legend}): {told}")
    groups = prometheus.get("/api/v1/rules")["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert set(health.values()) == {"ok"}, health
    seen.seen.append(f"rules that Prometheus evaluates without an error: {len(health)}")
    server.wait_for(lambda: set(active_alerts(prometheus)) >= MUST_BE_ACTIVE, "the alerts")
    seen.seen += [f"alert {name}: {state}" for name, state in active_alerts(prometheus)]
    return seen


def active_alerts(prometheus: Prometheus) -> list[tuple[str, str]]:
    """Those that were pending or firing since the start."""
    found = prometheus.ask("max by (alertname, alertstate) (max_over_time(ALERTS[1h]))")
    return sorted((r["metric"]["alertname"], r["metric"]["alertstate"]) for r in found)


def _variables(prometheus: Prometheus, listed: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """As Grafana fills them in with "All" chosen: one after the other, each in those below."""
    chosen: dict[str, str] = {}
    for variable in listed:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        if asked is None:
            assert variable["type"] == "datasource"
            continue
        values = prometheus.values(asked[2], _substituted(asked[1], chosen))
        assert values, variable["name"]
        chosen[variable["name"]] = "|".join(re.escape(value) for value in values)
    return chosen


def _substituted(query: str, chosen: Mapping[str, str]) -> str:
    for name, value in chosen.items():
        query = query.replace(f"${name}", value.replace("\\", "\\\\"))
    assert "$" not in query
    return query


def _numbers(
    server: EngineServer, prometheus: Prometheus, query: str, title: str
) -> list[dict[str, Any]]:
    """Its samples that are numbers; waited for, since a rate needs two scrapes."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        body = {"model": server.model, "prompt": "hello", "max_tokens": 4}
        server.call("POST", "/v1/completions", body, {"x-llm-d-inference-objective": "interactive"})
        found[:] = [r for r in prometheus.ask(query) if not math.isnan(float(r["value"][1]))]
        return bool(found)

    if title in MAY_BE_EMPTY:
        there()
    else:
        server.wait_for(there, f"{title}: {query}")
    return found
