"""vLLM's API server without vLLM: an ASGI app that sends the bytes vLLM 0.32 sends.

The bytes below were recorded from the real server (python -m vllm...entry with our scheduler and
without our middleware); tests/server/test_real_server.py holds the same requests against the real
one. Note what a refused request looks like: only /v1/completions and /v1/chat/completions show
`stop_reason`, and only without streaming.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from scorpio.server.middleware import ScorpioMiddleware
from tests.server.asgi import Client

STOP_REASON = "scorpio:ttft_infeasible?retry_after_ms=2400&attainable_ttft_ms=124"
NEVER = "scorpio:tpot_infeasible?never=1"

_CHAT = (
    '{{"id":"chatcmpl-a5","object":"chat.completion","created":1,"model":"tiny","choices":[{{"index":0,'
    '"message":{{"role":"assistant","content":{text},"refusal":null}},"logprobs":null,'
    '"finish_reason":{finish},"stop_reason":{stop},"token_ids":null}}],"usage":{{"prompt_tokens":4,'
    '"total_tokens":4,"completion_tokens":0}}}}'
)
_CHUNK = (
    'data: {{"id":"chatcmpl-99","object":"chat.completion.chunk","created":1,"model":"tiny",'
    '"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def chat_body(text: str, finish: str, stop: str | None) -> bytes:
    """A complete chat answer."""
    return _CHAT.format(
        text=json.dumps(text), finish=json.dumps(finish), stop=json.dumps(stop)
    ).encode()


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    """One chunk of a chat stream."""
    return _CHUNK.format(delta=json.dumps(delta), finish=json.dumps(finish)).encode()


def choice(token_ids: list[int], finish: str | None = None, stop: str | None = None) -> Any:
    """vLLM's CompletionOutput, as far as it is looked at."""
    return SimpleNamespace(index=0, token_ids=token_ids, finish_reason=finish, stop_reason=stop)


def output(*choices: Any, finished: bool = False) -> Any:
    """vLLM's RequestOutput."""
    return SimpleNamespace(outputs=list(choices), finished=finished)


def refused(stop: str = STOP_REASON) -> list[Any]:
    """All a refused engine request ever yields."""
    return [output(choice([], "abort", stop), finished=True)]


def tokens(count: int) -> list[Any]:
    """An answer of `count` tokens, one per output."""
    steps = [output(choice([i])) for i in range(count - 1)]
    return [*steps, output(choice([count], "length"), finished=True)]


@dataclass
class SamplingParams:
    """vLLM's, as far as it is looked at."""

    extra_args: dict[str, Any] | None = None
    max_tokens: int | None = 100
    temperature: float = 1.0
    ignore_eos: bool = False
    output_kind: Any = field(default_factory=lambda: SimpleNamespace(name="DELTA"))


@dataclass
class FakeEngine:
    """An engine client. `answers` are used up one per `generate`; `gates` hold single outputs."""

    answers: list[list[Any]] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)
    hold: asyncio.Event | None = None  # wait for this before the first output
    aborted: int = 0
    errored: bool = False
    unfinished: int = 0
    paused: bool = False
    hung: bool = False  # answers no question
    abort_ids: list[str] = field(default_factory=list)
    stopped_within_s: float | None = None
    _wakes: asyncio.Event = field(default_factory=asyncio.Event)

    def get_num_unfinished_requests(self) -> int:
        return self.unfinished

    async def is_paused(self) -> bool:
        while self.hung:
            await self._wakes.wait()
        return self.paused

    def wake(self) -> None:
        """It answers again."""
        self.hung = False
        self._wakes.set()

    async def abort(self, request_ids: list[str]) -> None:
        self.abort_ids += request_ids

    def shutdown(self, timeout: float) -> None:
        self.stopped_within_s = timeout

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **_: Any
    ) -> AsyncGenerator[Any, None]:
        self.params.append(sampling_params)
        return self._stream(self.answers.pop(0))

    async def _stream(self, outputs: list[Any]) -> AsyncGenerator[Any, None]:
        try:
            if self.hold is not None:
                await self.hold.wait()
            for item in outputs:
                yield item
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted += 1
            raise


class Handler:
    """One of vLLM's request handlers: it reaches the engine by `self.engine_client`."""

    __module__ = "vllm.entrypoints.fake"

    def __init__(self, engine: FakeEngine) -> None:
        self.engine_client: Any = engine


@dataclass
class FakeServer:
    """The app. Subclasses or `behave` decide what one request does."""

    engine: FakeEngine
    config: dict[str, Any] = field(default_factory=dict)
    api_keys: list[str] | None = None
    bodies: list[bytes] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    behave: Any = None
    engines: int = 1
    api_process: tuple[int, int] = (0, 1)  # its rank, out of how many

    def __post_init__(self) -> None:
        self.state = State()
        self.state.engine_client = self.engine
        self.handler = Handler(self.engine)
        self.state.openai_serving_chat = self.handler
        self.state.args = SimpleNamespace(api_key=self.api_keys)
        self.state.vllm_config = SimpleNamespace(
            additional_config={"scorpio": self.config},
            shutdown_timeout=0,
            model_config=SimpleNamespace(
                served_model_name="tiny",
                architectures=["LlamaForCausalLM"],
                hf_text_config=SimpleNamespace(num_hidden_layers=2),
            ),
            cache_config=SimpleNamespace(cache_dtype="auto"),
            parallel_config=SimpleNamespace(
                local_engines_only=False,
                data_parallel_size=self.engines,
                _api_process_rank=self.api_process[0],
                _api_process_count=self.api_process[1],
            ),
        )

    @property
    def body(self) -> Any:
        """The one body that arrived, parsed."""
        (raw,) = self.bodies
        return json.loads(raw)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        raw = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            raw += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(raw)
        behave = self.behave or answer_chat
        await behave(self, raw, receive, send)


async def start(send: Send, kind: str, status: int = 200) -> None:
    """Response headers as vLLM sends them."""
    headers = [(b"content-type", kind.encode()), (b"x-request-id", b"abc")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer_chat(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
    """/v1/chat/completions without streaming."""
    stream = server.handler.engine_client.generate("p", SamplingParams(), "id")
    last = [item async for item in stream][-1].outputs[0]
    await start(send, "application/json")
    text = "x" * len(last.token_ids)
    body = chat_body(text, last.finish_reason, last.stop_reason)
    await send({"type": "http.response.body", "body": body})


async def stream_chat(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
    """/v1/chat/completions with streaming: 200 at once, role chunk with the first output, and no
    chunk for an output without tokens."""
    await start(send, "text/event-stream; charset=utf-8")
    first = True
    async for item in server.handler.engine_client.generate("p", SamplingParams(), "id"):
        if first:
            first = False
            await _chunk(send, chunk({"role": "assistant", "content": ""}))
        if item.outputs[0].token_ids:
            await _chunk(send, chunk({"content": "x"}, item.outputs[0].finish_reason))
    await _chunk(send, DONE)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


def client(server: FakeServer, middleware: ScorpioMiddleware | None = None) -> Client:
    """A client of `server` behind our middleware."""
    return Client(middleware or ScorpioMiddleware(server), server)
