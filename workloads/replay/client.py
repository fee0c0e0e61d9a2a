"""How does a server answer a trace? An open-loop client: it sends when the trace says so.

The server's slowness never delays a send: there is no connection limit, every request is its own
task and every body is built beforehand. The client measures its own lateness; a run that could
not keep the schedule is marked void by workloads.results.metrics. The event loop is the one owner
of time, so a test can drive the whole client in virtual time.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from scorpio import http_client
from workloads.replay.request_body import PreparedRequest
from workloads.replay.sse import EventTooLong, SseSplitter
from workloads.replay.token_stream import REFUSAL_CODES, TokenStream, Verdict, error_text, plain
from workloads.results.records import Outcome, RequestRecord
from workloads.retries import come_back_s

REJECT_HEADERS = ("x-scorpio-reject-reason", "x-llm-d-request-dropped-reason")
LEAD_S = 0.05  # between the start of the clock and the first send
_LARGE_BODY_BYTES = 2**20
_ERROR_BODY_BYTES = 4096
# Of this machine: no descriptor, port, buffer, memory or network left. The server is not to blame.
_OWN_ERRNOS = (
    errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM,
    errno.ENETDOWN, errno.ENETUNREACH,
)  # fmt: skip

OnRecord = Callable[[RequestRecord], None]


async def replay(
    base_url: str,
    prepared: Sequence[PreparedRequest],
    *,
    timeout_s: float = 600.0,
    retries: int = 0,
    on_record: OnRecord | None = None,
    connector: aiohttp.BaseConnector | None = None,
) -> list[RequestRecord]:
    """Send every request at its time and record what comes back, in the order of the trace.

    Args:
        base_url: of the server, with or without a trailing `/v1`.
        timeout_s: bound on one request, from its send.
        retries: how often a refused request is sent again, at most (workloads/retries.py).
        on_record: called with each record as its request ends.
        connector: how to reach the server; TCP without a connection limit by default.

    Cancelling it (Ctrl-C) cancels what is in flight; `on_record` has seen all that ended.
    """
    client = _Client(base_url, timeout_s, retries, on_record or (lambda record: None))
    ordered = sorted(prepared, key=lambda item: (item.request.send_s, item.request.index))
    async with aiohttp.ClientSession(
        connector=connector or http_client.connector(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        return await client.run(session, ordered)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of sending once. headers: of the answer."""

    stream: TokenStream
    status: int | None
    headers: Mapping[str, str]
    verdict: Verdict


class _Client:
    def __init__(self, base_url: str, timeout_s: float, retries: int, on_record: OnRecord) -> None:
        self._base_url = server_root(base_url)
        self._timeout_s, self._retries = timeout_s, retries
        self._on_record = on_record
        self._records: list[RequestRecord] = []
        self._loop = asyncio.get_running_loop()
        self._zero_s = 0.0

    def _now_s(self) -> float:
        return self._loop.time() - self._zero_s

    async def run(
        self, session: aiohttp.ClientSession, ordered: Sequence[PreparedRequest]
    ) -> list[RequestRecord]:
        if not ordered:
            return []
        self._zero_s = self._loop.time() + LEAD_S - ordered[0].request.send_s
        async with asyncio.TaskGroup() as tasks:
            for item in ordered:
                wait_s = item.request.send_s - self._now_s()
                if wait_s > 0.0:
                    await asyncio.sleep(wait_s)
                tasks.create_task(self._serve(session, item))
        return sorted(self._records, key=lambda record: record.index)

    async def _serve(self, session: aiohttp.ClientSession, item: PreparedRequest) -> None:
        """One request, to its answer or its last refusal."""
        sent_s = [self._now_s()]
        while True:
            tried = await self._try(session, item)
            refused = tried.verdict.outcome is Outcome.REJECTED
            if not refused or len(sent_s) > self._retries:
                break
            wait_s = come_back_s(tried.headers, len(sent_s), self._timeout_s)
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
            sent_s.append(self._now_s())
        record = self._record(item, sent_s, tried)
        self._records.append(record)
        self._on_record(record)

    async def _try(self, session: aiohttp.ClientSession, item: PreparedRequest) -> _Tried:
        stream = TokenStream()
        status: int | None = None
        headers: Mapping[str, str] = {}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                session.post(
                    self._base_url + item.path, data=_payload(item.body), headers=item.headers
                ) as response,
            ):
                status, headers = response.status, response.headers
                if status >= 400:
                    body = await response.content.read(_ERROR_BODY_BYTES)
                    verdict = http_verdict(status, headers, body)
                else:
                    await self._read(response.content, stream)
                    verdict = stream.verdict()
        except TimeoutError:
            verdict = Verdict(Outcome.TIMED_OUT, error=f"no end within {self._timeout_s:g} s")
        except EventTooLong as error:
            verdict = Verdict(Outcome.FAILED, error=str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = f"{type(error).__name__}: {error}"
            own = status is None and is_own_fault(error)
            verdict = Verdict(Outcome.FAILED, error=plain(text, 300), client_fault=own)
        return _Tried(stream, status, headers, verdict)

    async def _read(self, content: aiohttp.StreamReader, stream: TokenStream) -> None:
        splitter = SseSplitter()
        async for chunk in content.iter_any():
            now_s = self._now_s()
            for event, data in splitter.feed(chunk):
                stream.feed(now_s, event, data)
            if stream.error is not None:
                return
        for event, data in splitter.close():
            stream.feed(self._now_s(), event, data)

    def _record(
        self,
        item: PreparedRequest,
        sent_s: Sequence[float],
        tried: _Tried,
    ) -> RequestRecord:
        request, stream, verdict = item.request, tried.stream, tried.verdict
        times = stream.token_times_s
        return RequestRecord(
            index=request.index,
            slo_class=request.slo_class,
            tenant=request.tenant,
            send_s=sent_s[0],
            scheduled_send_s=request.send_s,
            prompt_tokens=stream.prompt_tokens or request.prompt_tokens,
            intended_tokens=request.output_tokens,
            output_tokens=stream.output_tokens,
            ttft_slo_s=request.ttft_slo_s,
            tpot_slo_s=request.tpot_slo_s,
            e2e_slo_s=request.e2e_slo_s,
            value=request.value,
            outcome=verdict.outcome,
            reject_reason=verdict.reject_reason,
            http_status=tried.status,
            first_token_s=times[0] if times else None,
            last_token_s=times[-1] if times else None,
            token_times_s=stream.exact_token_times_s,
            ended_s=self._now_s(),
            error=verdict.error,
            client_fault=verdict.client_fault,
            tries=len(sent_s),
            last_send_s=sent_s[-1] if len(sent_s) > 1 else None,
        )


def _payload(body: bytes) -> bytes | io.BytesIO:
    # aiohttp writes large bytes in one go, which would hold up the event loop, and warns about it
    return body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body)


def is_own_fault(error: Exception) -> bool:
    """Did this machine fail, and not the server? Out of descriptors, no name resolved, or a
    request that cannot be put into words (a header with a line break)."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return True
    if isinstance(error, OSError):
        return error.errno in _OWN_ERRNOS
    return isinstance(error, ValueError)


def http_verdict(status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """What an HTTP error means. 429 and 503 say "not now": a refusal, with the server's reason
    where it gives one; anything else is a failure."""
    if status in REFUSAL_CODES:
        for name in REJECT_HEADERS:
            if reason := headers.get(name):
                return Verdict(Outcome.REJECTED, reject_reason=plain(reason))
        # stock vLLM's own queue caps answer 503 without a reason
        return Verdict(Outcome.REJECTED, reject_reason=f"http_{status}")
    return Verdict(Outcome.FAILED, error=f"HTTP {status}: {_body_text(body)}")


def _body_text(body: bytes) -> str:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    if isinstance(payload, dict):
        return error_text(payload)
    return plain(body[:300].decode(errors="replace"), 300)


def server_root(base_url: str) -> str:
    """`http://host:port[/v1][/]` -> `http://host:port`."""
    return base_url.rstrip("/").removesuffix("/v1")
