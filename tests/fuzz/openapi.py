"""Which requests does the server's own OpenAPI allow, and which does it forbid? Some of both.

schemathesis makes them from the schema that the running server gives out (vLLM's: generating
routes, look-ups, tokens) and from that of our routes, which vLLM's does not know.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from tests.fuzz.bodies import MODEL, Shot, cut_work

VLLMS = (
    *("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
    *("/inference/v1/generate", "/v1/messages/count_tokens", "/tokenize", "/detokenize"),
    *("/v1/models", "/version", "/health", "/load"),
)
_POLICY = {
    "type": "object",
    "required": ["policy"],
    "additionalProperties": False,
    "properties": {
        "policy": {"type": "string"},
        "options": {"type": "object", "additionalProperties": {"type": "number"}},
        "record_steps": {"type": "boolean"},
    },
}
_FINE = {"responses": {"200": {"description": "fine"}}}
OURS: Mapping[str, Any] = {
    "/scorpio/status": {"get": _FINE},
    "/scorpio/health": {"get": _FINE},
    "/scorpio/policy": {
        "put": {"requestBody": {"content": {"application/json": {"schema": _POLICY}}}, **_FINE}
    },
}
_NAMED_EVERY = 4  # bodies keep the model that schemathesis made up: the others name ours


def shots(schema: Mapping[str, Any], count: int, headers: Mapping[str, str]) -> list[Shot]:
    """`count` requests or a few more, the same for the same schema. headers: sent with each."""
    paths = {path: schema["paths"][path] for path in VLLMS if path in schema["paths"]}
    loaded = schemathesis.openapi.from_dict({**schema, "paths": {**paths, **OURS}})
    operations = [found.ok() for found in loaded.get_all_operations() if isinstance(found, Ok)]
    each = -(-count // (2 * sum(operation.method != "get" for operation in operations)))
    made: list[Shot] = []
    for operation in operations:
        for mode in GenerationMode:
            made += _of(operation, mode, each, headers)
    return made


def _of(operation: Any, mode: GenerationMode, count: int, headers: Mapping[str, str]) -> list[Shot]:
    made: list[Shot] = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        deadline=None,
        derandomize=True,
    )
    def collect(case: Any) -> None:
        made.append(_shot(case.as_transport_kwargs(base_url=""), len(made), headers))

    with contextlib.suppress(Unsatisfiable):  # nothing that a look-up forbids
        collect()
    return made


def _shot(case: Mapping[str, Any], number: int, headers: Mapping[str, str]) -> Shot:
    body, raw = case.get("json"), b""
    if isinstance(body, dict):
        if number % _NAMED_EVERY:
            body = body | {"model": MODEL}
        cut_work(body)
    if "json" in case:
        raw = json.dumps(body).encode()
    query = f"?{urlencode(case['params'], doseq=True)}" if case.get("params") else ""
    given_headers = {name.lower(): value for name, value in case["headers"].items()}
    return Shot(case["url"] + query, {**given_headers, **headers}, raw, method=case["method"])
