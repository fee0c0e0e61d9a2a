"""How is a running server switched to another policy, and when is the switch in force?

EngineCore reads a new wish in its next step and an idle engine makes none: so after the wish one
tiny request is sent, and the status must then name the wish by its sequence number.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TIMEOUT_S = 60.0  # of one HTTP call
_FOLLOW_S = 60.0  # for the engine to drain, or to follow a wish
_POLL_S = 0.1


class AdminError(RuntimeError):
    """The server refused an admin call, or did not follow it in time."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin side of one server."""

    url: str
    token: str

    def status(self) -> dict[str, Any]:
        """GET /scorpio/status."""
        return self._call("GET", "/scorpio/status")

    def model(self) -> str:
        """The name of the served model."""
        return str(self._call("GET", "/v1/models")["data"][0]["id"])

    def reload(self, dry_run: bool = False) -> dict[str, Any]:
        """PUT /scorpio/config: what is in force now; dry_run: what would be, and nothing changes.
        Raises AdminError with what is wrong."""
        if dry_run and "terms" not in self._call("GET", "/scorpio/load"):
            raise AdminError(
                f"{self.url}: an older Scorpio, which cannot try an SLO file: it would take it"
            )
        return self._call("PUT", "/scorpio/config" + "?dry_run=true" * dry_run)

    def switch(self, policy: str, options: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Put `policy` in force on a drained engine; returns the status that proves it.

        Raises:
            AdminError: refused, not drained, or not in force in time.
        """
        self.wait_drained()
        wish = {"policy": policy, "options": dict(options or {})}
        seq = self._call("PUT", "/scorpio/policy", wish)["control_seq"]
        end_s = time.monotonic() + _FOLLOW_S
        while True:
            self._step()
            status = self.wait_drained()
            if status.get("control_error"):
                raise AdminError(f"policy {policy}: {status['control_error']}")
            if status.get("control_seq") == seq and status.get("policy") == policy:
                return status
            if time.monotonic() > end_s:
                raise AdminError(
                    f"policy {policy} was not in force within {_FOLLOW_S:.0f} s: {status}"
                )
            time.sleep(_POLL_S)

    def wait_drained(self) -> dict[str, Any]:
        """Wait until nothing runs or waits in the engine. Raises AdminError."""
        end_s = time.monotonic() + _FOLLOW_S
        while True:
            status = self.status()
            if not status.get("running") and not status.get("waiting"):
                return status
            if time.monotonic() > end_s:
                raise AdminError(f"the engine did not drain within {_FOLLOW_S:.0f} s: {status}")
            time.sleep(_POLL_S)

    def _step(self) -> None:
        """Make the engine step: one request of one token, which no policy may refuse."""
        body = {
            "model": self.model(),
            "prompt": [33, 34, 35],
            "max_tokens": 1,
            "vllm_xargs": {"slo_on_miss": "wait"},
        }
        self._call("POST", "/v1/completions", body)

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                content = json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:300]
            raise AdminError(f"{method} {path}: HTTP {error.code}: {text}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise AdminError(f"{method} {path}: {error}") from None
        if not isinstance(content, dict):
            raise AdminError(f"{method} {path}: the answer is not a JSON object")
        return content
