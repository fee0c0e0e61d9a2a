"""Did the engine refuse this request, or has its first token come? One ticket per HTTP request.

vLLM's handlers do not pass the refusal on: a stream without a token drops the chunk that holds
`stop_reason` (openai/chat_completion/serving.py, "don't return empty chunks"), and /v1/responses
and /v1/messages never show it. The one place in the API process where it is always visible is
`EngineClient.generate`, so each handler's `engine_client` is a `WatchedEngine` that forwards
everything and reads along. It knows exactly, from token ids, for every endpoint, and no response
byte is ever parsed. The ticket is found through a context variable: handlers, their streaming
tasks and merged generators all run in copies of the request's context.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from scorpio.core.routing.quote import Quote
from scorpio.core.slo import (
    XARG_BODY,
    XARG_ON_MISS,
    XARG_QUOTED,
    XARG_SLO,
    XARG_TENANT,
    XARG_WEIGHT,
    OnMiss,
    Slo,
)
from scorpio.core.wire import RejectionNotice, decode_rejection
from scorpio.server.accounts.cache_salt import salted
from scorpio.server.accounts.tenant_use import Visit
from scorpio.server.quote.desk import QuoteDesk
from scorpio.server.request.lengths import LengthService, prompt_count
from scorpio.server.request.prompt_text import NO_TEXT, PromptText
from scorpio.server.request.wire_safe import check_params
from scorpio.server.vllm_api import is_delta
from scorpio.versions import supported

CURRENT: ContextVar[Ticket | None] = ContextVar("scorpio_ticket", default=None)
_HANDLER_PACKAGE = "vllm.entrypoints."


class IncompatibleServerError(RuntimeError):
    """vLLM's API server is not built the way this plug-in needs; the message has the remedy."""


@dataclass(slots=True)
class Heard:
    """outputs: how many the engine has sent to this process."""

    outputs: int = 0


@dataclass(slots=True)
class Sent:
    """When a request was sent on, for the desk that quotes such times, and the quote that it takes,
    if any."""

    desk: QuoteDesk
    slo: Slo
    quote: Quote | None = None
    since_s: float = field(default_factory=time.monotonic)

    def on(self, prompt_tokens: int) -> bool:
        """It goes to the engine. True: as what was quoted."""
        self.desk.sent(prompt_tokens, self.slo)
        if self.quote is not None and prompt_tokens > self.quote.prompt_tokens:
            self.quote = None  # it is longer than what was asked about
        return self.quote is not None

    def answered(self, refused: bool = False) -> None:
        """Its first token has come, or its refusal."""
        if self.quote is not None:
            took_s = math.inf if refused else time.monotonic() - self.since_s
            self.desk.came(self.quote, took_s)
            self.quote = None


@dataclass(slots=True)
class Ticket:
    """What is known so far. request_ids: engine requests made; tokens: one has produced a token;
    tenant: whose it is, as the server knows it; text: what its user says, for the length predictor;
    deadline_s: when its first token is late and it may be refused for that (time.monotonic).
    body: a name of its own, where several engine requests are made of it. weight, slo: told to the
    engine, "" = it needs no word (terms.py). visit: what it takes of its tenant. quoted: "1" where
    it asks for what it was quoted."""

    must_wait: bool = False
    tenant: str = ""
    text: PromptText = NO_TEXT
    deadline_s: float = math.inf
    body: str = ""
    weight: str = ""
    slo: str = ""
    visit: Visit | None = None
    sent: Sent | None = None
    quoted: str = ""
    request_ids: list[str] = field(default_factory=list)
    tokens: bool = False
    refusals: list[RejectionNotice] = field(default_factory=list)

    @property
    def words(self) -> Mapping[str, str]:
        """What the engine hears of the server."""
        return {
            XARG_TENANT: self.tenant,
            XARG_BODY: self.body,
            XARG_WEIGHT: self.weight,
            XARG_SLO: self.slo,
            XARG_QUOTED: self.quoted,
        }

    @property
    def request_id(self) -> str:
        """By which `scorpio explain` knows this request: the first one made of it; "" before."""
        return self.request_ids[0] if self.request_ids else ""

    @property
    def refusal(self) -> RejectionNotice | None:
        """The refusal once ALL engine requests of this HTTP request were refused, else None."""
        if self.tokens or not self.refusals or len(self.refusals) < len(self.request_ids):
            return None
        return self.refusals[0]


class WatchedEngine:
    """vLLM's engine client as its request handlers see it."""

    def __init__(
        self, engine: Any, lengths: LengthService, heard: Heard, isolate_cache: bool = False
    ) -> None:
        self._engine = engine
        self._lengths = lengths
        self._heard = heard
        self._isolate_cache = isolate_cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        ticket = CURRENT.get()
        text = NO_TEXT if ticket is None else ticket.text
        if ticket is not None:
            if ticket.sent is not None and not ticket.request_ids:
                ticket.quoted = "1" if ticket.sent.on(prompt_count(prompt)) else ""
            _tell(sampling_params, ticket.words)
            if self._isolate_cache:
                prompt = salted(prompt, ticket.tenant)
        asked = self._lengths.tell(sampling_params, prompt, text, kwargs.get("lora_request"))
        check_params(sampling_params)
        if ticket is not None and (ticket.must_wait or ticket.tokens):
            # After the first token (tool turns, beam steps) nothing may be refused any more.
            extra = sampling_params.extra_args or {}
            sampling_params.extra_args = {**extra, XARG_ON_MISS: OnMiss.WAIT.value}
        stream = self._engine.generate(prompt, sampling_params, request_id, **kwargs)
        if asked is not None:
            stream = self._lengths.watch(stream, asked)
        if ticket is None:
            return stream
        ticket.request_ids.append(request_id)
        if ticket.visit is not None:
            stream = charged(stream, ticket, prompt, is_delta(sampling_params))
        return watch(stream, ticket, self._heard)


def _tell(sampling_params: Any, words: Mapping[str, str]) -> None:
    """Whatever a body of any shape says, of these the engine hears the server's word."""
    extra = dict(sampling_params.extra_args or {})
    if any(extra.get(key, "") != word for key, word in words.items()):
        others = {key: value for key, value in extra.items() if key not in words}
        told = {key: word for key, word in words.items() if word}
        sampling_params.extra_args = others | told or None


async def watch(
    stream: AsyncGenerator[Any, None], ticket: Ticket, heard: Heard
) -> AsyncGenerator[Any, None]:
    """The same outputs, noted on the ticket before the handler sees them."""
    notice: RejectionNotice | None = None
    produced = False
    async with aclosing(stream):  # a closed handler must still abort the request in the engine
        async for output in stream:
            heard.outputs += 1
            if not produced:
                for choice in output.outputs:
                    produced = produced or bool(choice.token_ids)
                    if choice.finish_reason == "abort":
                        notice = decode_rejection(choice.stop_reason) or notice
                if produced:
                    ticket.tokens = True
                elif output.finished and notice is not None:
                    ticket.refusals.append(notice)
                if ticket.sent is not None and (produced or notice is not None):
                    ticket.sent.answered(refused=not produced)
            yield output


async def charged(
    stream: AsyncGenerator[Any, None], ticket: Ticket, prompt: Any, delta: bool
) -> AsyncGenerator[Any, None]:
    """The same outputs, paid for by their tenant: the prompt once, though tool turns and beams
    bring it again, and nothing for one that is refused. delta: outputs hold new tokens only."""
    visit = ticket.visit
    assert visit is not None
    cost = 0.0 if ticket.tokens else visit.prompt(prompt_count(prompt))
    counts: dict[int, int] = {}
    async with aclosing(stream):
        async for output in stream:
            for choice in output.outputs:
                before = counts.get(choice.index, 0)
                now = len(choice.token_ids) + (before if delta else 0)
                counts[choice.index] = now
                if now > before:
                    visit.began(cost)
                    visit.output(now - before)
                    cost = 0.0
                elif choice.finish_reason == "abort" and decode_rejection(choice.stop_reason):
                    visit.refused(cost)
                    cost = 0.0
            yield output


def attach_watch(
    state: Any, lengths: LengthService, heard: Heard, isolate_cache: bool = False
) -> int:
    """Put a WatchedEngine between every request handler in `app.state` and the engine client.

    `state.engine_client` itself (health, admin routes) stays as it is. Idempotent.

    Raises:
        IncompatibleServerError: no handler holds the engine client under that name any more.
    """
    engine = state.engine_client
    watched = WatchedEngine(engine, lengths, heard, isolate_cache)
    todo = [value for value in state._state.values() if _is_handler(value)]
    seen: set[int] = set()
    attached = 0
    while todo:
        handler = todo.pop()
        if id(handler) in seen or not hasattr(handler, "__dict__"):
            continue
        seen.add(id(handler))
        current = vars(handler).get("engine_client")
        if current is engine:
            handler.engine_client = watched
        attached += current is engine or isinstance(current, WatchedEngine)
        todo += [value for value in vars(handler).values() if _is_handler(value)]
    if not attached:
        raise IncompatibleServerError(
            "no request handler of this vLLM holds `engine_client`: refusals could not be told to "
            f"clients. Install vLLM {supported()}, or run without --middleware and --scheduler-cls"
        )
    return attached


def _is_handler(value: object) -> bool:
    return type(value).__module__.startswith(_HANDLER_PACKAGE)
