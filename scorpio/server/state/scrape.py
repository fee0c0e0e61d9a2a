"""What does /metrics answer? vLLM's page, and ours behind it.

EngineCore has no HTTP; the API process reads its status file when it is scraped and appends the
result to vLLM's text. Registering a collector would not do: with PROMETHEUS_MULTIPROC_DIR vLLM
serves a private registry that holds mmapped values only (vllm/v1/metrics/prometheus.py), and
values of one engine must not be added up over API processes.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scorpio.server.context import ServerContext
from scorpio.server.state.length_metrics import LengthCollector
from scorpio.server.state.metrics import LABELS, EngineCollector
from scorpio.server.state.tenant_metrics import BudgetCollector, TenantCollector


async def serve_metrics(
    app: ASGIApp, server: ServerContext, scope: Scope, receive: Receive, send: Send
) -> None:
    """vLLM's /metrics with ours appended. The request is stripped of its wishes for another
    format or compression, so that both halves are the same plain text."""
    headers = [(k, v) for k, v in scope["headers"] if k not in (b"accept", b"accept-encoding")]
    start: Message = {}
    parts: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        if start["status"] == 200:
            parts.append(generate_latest(_ours(server)))
        body = b"".join(parts)
        raw = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        raw.append((b"content-length", str(len(body)).encode()))
        await send({**start, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    await app({**scope, "headers": headers}, receive, collect)


def _ours(server: ServerContext) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineCollector(server))
    # What is this process's carries the label of its first engine.
    first = str(server.status.engines[0])
    labels = dict(zip(LABELS, (server.model_name, first), strict=True))
    registry.register(LengthCollector(server.lengths, labels))
    registry.register(BudgetCollector(server, labels))
    registry.register(TenantCollector(server, labels))
    return registry
