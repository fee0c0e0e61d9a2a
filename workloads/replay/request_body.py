"""What exactly is sent for one request? Bytes and headers, built before the clock starts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from workloads.request import WorkloadRequest

ApiMode = Literal["completions", "chat"]
SloCarrier = Literal["headers", "xargs", "none"]
_PATHS: dict[ApiMode, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True, slots=True)
class RequestStyle:
    """How requests are phrased; the same for a whole run.

    slo_carrier: headers `x-slo-*`, body `vllm_xargs`, or not at all. send_class also names the
    SLO class (the server must have it configured). vllm_fields: exact output lengths
    (`ignore_eos`, `min_tokens`) and a running token count; turn it off for servers that refuse
    fields outside OpenAI's API. headers are added to every request (Authorization). run_id: of
    the request ids, so that runs side by side never name two requests alike.
    """

    model: str
    mode: ApiMode = "completions"
    slo_carrier: SloCarrier = "headers"
    send_class: bool = False
    vllm_fields: bool = True
    temperature: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: f"replay-{uuid4().hex[:12]}")


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """One request, ready to be sent."""

    request: WorkloadRequest
    path: str
    body: bytes
    headers: Mapping[str, str]


def prepare(
    request: WorkloadRequest, prompt: Sequence[int] | str, style: RequestStyle
) -> PreparedRequest:
    """Build the body and the headers of one request.

    Raises:
        ValueError: chat mode with token ids (chat templates need text).
    """
    body: dict[str, Any] = {
        "model": style.model,
        "max_tokens": request.output_tokens,
        "temperature": style.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if style.mode == "chat":
        if not isinstance(prompt, str):
            raise ValueError("chat mode needs the prompt as text, not as token ids")
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt if isinstance(prompt, str) else list(prompt)
    if style.vllm_fields:
        body |= {"ignore_eos": True, "min_tokens": request.output_tokens}
        # A running total with every chunk counts tokens exactly. `return_token_ids` would too,
        # but it echoes the whole prompt in front of the first token, which is the one we time.
        body["stream_options"]["continuous_usage_stats"] = True
    if style.slo_carrier == "xargs" and (xargs := _xargs(request, style)):
        body["vllm_xargs"] = xargs
    headers = {
        "Content-Type": "application/json",
        "x-request-id": f"{style.run_id}-{request.index}",
        **(_slo_headers(request, style) if style.slo_carrier == "headers" else {}),
        **style.headers,
    }
    return PreparedRequest(request, _PATHS[style.mode], json.dumps(body).encode(), headers)


def _slo_headers(request: WorkloadRequest, style: RequestStyle) -> dict[str, str]:
    values = {
        "x-slo-ttft-ms": _ms(request.ttft_slo_s),
        "x-slo-tpot-ms": _ms(request.tpot_slo_s),
        "x-slo-e2el-ms": _ms(request.e2e_slo_s),
        "x-llm-d-inference-objective": request.slo_class if style.send_class else None,
        "x-scorpio-on-miss": request.on_miss or None,
        "x-llm-d-inference-fairness-id": request.tenant or None,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _xargs(request: WorkloadRequest, style: RequestStyle) -> dict[str, float | str]:
    values: dict[str, float | str | None] = {
        "slo_ttft_ms": _ms(request.ttft_slo_s),
        "slo_tpot_ms": _ms(request.tpot_slo_s),
        "slo_e2el_ms": _ms(request.e2e_slo_s),
        "slo_class": request.slo_class if style.send_class else None,
        "slo_on_miss": request.on_miss or None,
        "slo_tenant": request.tenant or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _ms(slo_s: float) -> float | None:
    return round(slo_s * 1000.0, 6) if math.isfinite(slo_s) else None
