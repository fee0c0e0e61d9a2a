"""Which vLLM request is made of a call? With a grammar that is compiled in virtual time."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output.request import StructuredOutputRequest

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import Request, RequestFactory
from tests.simulation.load import Call

_JSON = StructuredOutputsParams(json_object=True)


class Grammar:
    """Accepts everything: the simulation is about waiting for it."""

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        return True


class CallFactory:
    """Requests of one engine, as EngineCore hands them to its scheduler."""

    def __init__(self, spec: EngineSpec) -> None:
        self._factory = RequestFactory(spec)
        self._grammars: dict[str, Future[Any]] = {}

    def make(self, call: Call, wall_s: float) -> Request:
        """The request of a call. wall_s: what its API process took for the time of arrival."""
        request = self._factory.make(
            call.request_id,
            wall_s,
            call.prompt_tokens,
            call.max_tokens,
            call.xargs,
            prefix_ids=call.prefix_ids,
            prefix_block_tokens=2 * 16,
            adapter=call.adapter,
        )
        if call.parts:
            request.resumable = True
        if call.grammar_s is not None:
            # What Request() and StructuredOutputManager.grammar_init() leave behind.
            future: Future[Any] = Future()
            self._grammars[call.request_id] = future
            request.structured_output_request = StructuredOutputRequest(_JSON, future)
            request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
        return request

    def part(self, call: Call, number: int, wall_s: float) -> Request:
        """A further input of a session; the one after the last says that there is no more."""
        more = number < len(call.parts)
        tokens = call.parts[number] if more else 1
        request = self._factory.make(call.request_id, wall_s, tokens, call.max_tokens, call.xargs)
        request.resumable = more
        return request

    def compiled(self, call: Call) -> None:
        """Its grammar is ready, or broken."""
        future = self._grammars.pop(call.request_id)
        if call.grammar_fails:
            future.set_exception(ValueError("no grammar"))
        else:
            future.set_result(Grammar())
