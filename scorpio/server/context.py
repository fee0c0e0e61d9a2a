"""What does the middleware know about the server it runs in? Settings, SLO book, API keys.

Read once from vLLM's `app.state`; a wrong setting stops the server at start-up.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from scorpio import channel
from scorpio.server.slo_headers import SloBook
from scorpio.server.ticket import attach_watch
from scorpio.server.vllm_api import Authenticator, authenticator
from scorpio.settings import ScorpioSettings, load_settings

STATUS_TTL_S = 0.1


@dataclass(slots=True)
class StatusReader:
    """EngineCore's published state, read at most every STATUS_TTL_S."""

    run_dir: str | None
    clock: Callable[[], float] = time.monotonic
    _value: dict[str, Any] | None = None
    _read_s: float = float("-inf")

    def read(self) -> dict[str, Any] | None:
        """The last status, or None (no run_dir, or no step yet)."""
        if self.run_dir is None:
            return None
        now_s = self.clock()
        if now_s - self._read_s >= STATUS_TTL_S:
            self._value = channel.read_status(self.run_dir)
            self._read_s = now_s
        return self._value


@dataclass(slots=True)
class ServerContext:
    """One vLLM API server as the middleware sees it."""

    settings: ScorpioSettings
    book: SloBook
    status: StatusReader
    model_name: str
    auth: Authenticator | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def policy(self) -> str:
        """The policy that is on, as far as EngineCore has said."""
        status = self.status.read()
        return str(status["policy"]) if status and "policy" in status else self.settings.policy

    def may_pass(self, scope: Scope) -> bool:
        """False when vLLM is going to answer 401: then nothing about SLOs is said either."""
        return self.auth is None or self.auth.accepts(scope)

    def key_tenant(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        """Tenant of a checked API key (a digest: the key itself goes nowhere)."""
        if self.auth is None or not self.auth.guards(scope):
            return None
        token = headers.get("authorization", "").partition(" ")[2]
        return "key-" + hashlib.sha256(token.encode()).hexdigest()[:16]


def attach_server(app: Any) -> ServerContext:
    """Context of a vLLM FastAPI app; also puts the watch on its handlers.

    Raises:
        SettingsError: bad `additional_config.scorpio`. IncompatibleServerError: another vLLM.
    """
    state = app.state
    settings = load_settings(state.vllm_config.additional_config)
    classes, default = settings.slo_book()
    attach_watch(state)
    names = state.vllm_config.model_config.served_model_name
    return ServerContext(
        settings=settings,
        book=SloBook(classes, default, settings.service_tiers),
        status=StatusReader(settings.run_dir),
        model_name=names[0] if isinstance(names, list) else str(names),
        auth=authenticator(state.args),
    )
