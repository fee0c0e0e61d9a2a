"""What does the middleware know about the server it runs in? Its terms, its engine, what is in it.

Read from vLLM's `app.state`; a wrong setting stops the server at start-up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from scorpio import channel
from scorpio.engine.ledger.salt import ledger_salt
from scorpio.server.accounts.agreed import Agreement
from scorpio.server.accounts.in_flight import Caps, InFlight
from scorpio.server.accounts.tenant_use import TenantUses
from scorpio.server.accounts.terms import Terms, TermsSource
from scorpio.server.quote.desk import QuoteDesk
from scorpio.server.request.flights import Flights
from scorpio.server.request.lengths import LengthService, length_service
from scorpio.server.request.ticket import attach_watch
from scorpio.server.shared import Shared
from scorpio.server.state.history import History
from scorpio.server.state.merged_status import merged
from scorpio.server.state.silence import Silence
from scorpio.server.vllm_api import (
    Authenticator,
    api_process,
    api_tokens,
    authenticator,
    engine_facts,
    engine_indexes,
    own_key,
)
from scorpio.settings import CONFIG_KEY, ScorpioSettings, load_settings

if TYPE_CHECKING:
    from scorpio.server.state.tracing import Traces

_MIB = 1 << 20
_LOADED, _SILENT, _UNFINISHED = "loaded_unix_s", "silent_s", "unfinished"


@dataclass(slots=True)
class StatusReader:
    """What the engines have published, parsed again only when a file was replaced. engines: the
    data-parallel ranks that this process talks to."""

    run_dir: str | None
    engines: Sequence[int] = (0,)
    _stamps: dict[int, channel.Stamp] = field(default_factory=dict)
    _states: dict[int, dict[str, Any]] = field(default_factory=dict)
    _merged: dict[str, Any] | None = None

    def read(self) -> dict[str, Any] | None:
        """The last status of all engines together (merged_status.py), or None (no run_dir, or no
        step yet)."""
        self.by_engine()
        if self._merged is None and self._states:
            self._merged = merged(list(self._states.values()))
        return self._merged

    def by_engine(self) -> Mapping[int, Mapping[str, Any]]:
        """The last status of each that has said something."""
        if self.run_dir is None:
            return {}
        for engine in self.engines:
            stamp = channel.stamp(self.run_dir, channel.of_engine(channel.STATUS, engine))
            if stamp == self._stamps.get(engine):
                continue
            self._stamps[engine], self._merged = stamp, None
            state = channel.read_status(self.run_dir, engine)
            if state is None:
                self._states.pop(engine, None)
            else:
                self._states[engine] = state
        return self._states


@dataclass(slots=True)
class ServerContext:
    """One vLLM API server as the middleware sees it. facts: of its engine, for a profile. terms: in
    force now, since loaded_unix_s, by the agreement of all API processes; word: the number of the
    last one; reload_error: why a newer file was not taken.
    tokens: vLLM's own API keys. own_key: of what this server starts itself. http_server: uvicorn's.
    traces: where vLLM traces. shared: with the other API processes of this server."""

    agreement: Agreement
    terms: Terms
    status: StatusReader
    model_name: str
    lengths: LengthService
    in_flight: InFlight
    engine: Any
    facts: Mapping[str, object]
    flights: Flights = field(default_factory=Flights)
    silence: Silence = field(default_factory=Silence)
    uses: TenantUses = field(default_factory=TenantUses)
    shared: Shared = field(default_factory=Shared)
    auth: Authenticator | None = None
    http_server: Any = None
    own_key: str = ""
    traces: Traces | None = None
    loaded_unix_s: float = 0.0
    reload_error: str = ""
    word: int = 0
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    history: History = field(init=False)
    quotes: QuoteDesk = field(init=False)

    def __post_init__(self) -> None:
        self.quotes = QuoteDesk(
            lambda: self.status.by_engine(), self.status.run_dir, shared=self.shared
        )
        self.history = History(lambda: self.status.by_engine().values())

    @property
    def settings(self) -> ScorpioSettings:
        """In force now."""
        return self.terms.settings

    @property
    def tokens(self) -> Sequence[str]:
        """vLLM's own API keys."""
        return self.agreement.source.tokens

    def use(self, terms: Terms, at_unix_s: float) -> None:
        """These count for requests that come from now on."""
        self.terms, self.loaded_unix_s, self.reload_error = terms, at_unix_s, ""
        self.shared.put(_LOADED, at_unix_s)
        self.in_flight.caps = caps_of(terms.settings)
        self.uses.follow(terms.tenants)

    @property
    def policy(self) -> str:
        """The policy that is on, as far as EngineCore has said."""
        status = self.status.read()
        return str(status["policy"]) if status and "policy" in status else self.settings.policy

    @property
    def latency_source(self) -> str:
        """Of the latency profile in force, which may have been measured since the start; "" = there
        is none."""
        told = (self.status.read() or {}).get("latency_source")
        if isinstance(told, str) and told not in ("", "none"):
            return told
        latency = self.settings.latency
        return "" if latency is None else str(latency.get("source", "given"))

    @property
    def last_loaded_unix_s(self) -> float:
        """When the last API process has read what is in force."""
        return max(self.loaded_unix_s, *self.shared.each(_LOADED), 0.0)

    def tell_others(self) -> None:
        """The other API processes, and hear of them: one without requests of its own hears no
        silence, and nothing of what its tenants use."""
        if self.shared.count == 1:
            return
        self.uses.look()
        self.lengths.share()
        self.shared.put(_SILENT, self.silence.silent_s)
        self.shared.put(_UNFINISHED, self.engine.get_num_unfinished_requests())

    def leave(self) -> None:
        """This process ends; the others may go on, and hear nothing of its engine from it."""
        for name in (_SILENT, _UNFINISHED):
            self.shared.put(name, 0.0)

    @property
    def silent_s(self) -> float:
        """For how long the engine has said nothing although it has work; of several API processes
        the one that has waited longest."""
        return max(self.silence.silent_s, *self.shared.each(_SILENT), 0.0)

    @property
    def unfinished(self) -> int:
        """Requests in the engine, of all API processes."""
        own = int(self.engine.get_num_unfinished_requests())
        return own + int(self.shared.others(_UNFINISHED))

    @property
    def stalled(self) -> bool:
        """True when the engine has work and has made no progress for too long."""
        return self.silent_s >= self.settings.stall_s

    def may_pass(self, scope: Scope) -> bool:
        """False when vLLM is going to answer 401: then nothing about SLOs is said either."""
        return self.terms.keys is not None or self.auth is None or self.auth.accepts(scope)


def caps_of(settings: ScorpioSettings) -> Caps:
    """Of one API process."""
    return Caps(
        settings.most_in_flight,
        settings.most_in_flight_per_key,
        int(settings.most_body_mib * _MIB),
        int(settings.most_held_mib * _MIB),
        settings.most_body_s,
    )


def _traces(endpoint: str | None) -> Traces | None:
    """Where vLLM traces. OpenTelemetry comes with vLLM; it is not loaded for nothing."""
    if endpoint is None:
        return None
    from scorpio.server.state.tracing import traces_of_vllm

    return traces_of_vllm()


def attach_server(app: Any) -> ServerContext:
    """Context of a vLLM FastAPI app; also puts the watch on its handlers.

    Raises:
        SettingsError: bad `additional_config.scorpio`. IncompatibleServerError: another vLLM.
    """
    state = app.state
    config = state.vllm_config.additional_config
    engine = load_settings(config)
    source = TermsSource(config.get(CONFIG_KEY, {}), engine, api_tokens(state.args))
    shared = Shared(engine.run_dir, *api_process(state.vllm_config))
    agreement = Agreement(source, shared)
    word, terms = agreement.begin()
    settings = terms.settings
    names = state.vllm_config.model_config.served_model_name
    model_name = names[0] if isinstance(names, list) else str(names)
    if shared.count > 1 and settings.run_dir is not None:
        ledger_salt(settings.run_dir)  # a quote of one process is known to all
    lengths = length_service(settings, model_name, shared)
    flights = Flights()
    attach_watch(state, lengths, flights.heard, engine.isolate_cache)
    server = ServerContext(
        agreement=agreement,
        terms=terms,
        status=StatusReader(settings.run_dir, engine_indexes(state.vllm_config)),
        model_name=model_name,
        lengths=lengths,
        in_flight=InFlight(caps_of(settings), shared),
        engine=state.engine_client,
        facts=engine_facts(state.vllm_config),
        flights=flights,
        uses=TenantUses(shared=shared),
        shared=shared,
        auth=authenticator(state.args),
        http_server=getattr(state, "server", None),
        own_key=own_key(state.args),
        traces=_traces(getattr(state.args, "otlp_traces_endpoint", None)),
    )
    server.use(terms, time.time())
    server.word, server.reload_error = word.number, word.error
    return server
