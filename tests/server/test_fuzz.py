"""Can any request make the middleware raise, hang, or answer anything but 400 or vLLM's own?"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from scorpio.server.request.endpoints import ENDPOINTS
from scorpio.server.request.slo_headers import (
    CLASS_HEADERS,
    MS_HEADERS,
    ON_MISS_HEADER,
    TENANT_HEADERS,
)
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import FakeEngine, FakeServer, client, refused, tokens

logging.getLogger("asyncio").setLevel(logging.WARNING)

CONFIG: dict[str, Any] = {
    "classes": {"interactive": {"ttft_ms": 500}, "batch": {"on_miss": "degrade"}},
}
_NAMES = [n for names in MS_HEADERS.values() for n in names]
_PATHS = sorted(ENDPOINTS) + 2 * [p for p, e in sorted(ENDPOINTS.items()) if e.xargs_path]
_OTHER_NAMES = [*CLASS_HEADERS, *TENANT_HEADERS, ON_MISS_HEADER, "authorization"]
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", 2**64, -(2**63) - 1])  # no message to the engine can hold these
    | st.sampled_from(["interactive", "reject", "wait", "5", "1e999", "nan", "-0"])
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
_XARGS = st.dictionaries(
    st.sampled_from(
        ["slo_ttft_ms", "slo_tpot_ms", "slo_e2el_ms", "slo_class", "slo_on_miss", "slo_tenant",
         "predicted_output_tokens", "other"]
    ),
    _JSON,
    max_size=5,
)  # fmt: skip
_GOOD_XARGS = st.fixed_dictionaries(
    {"other": _SCALARS},
    optional={
        "slo_ttft_ms": st.integers(1, 9000),
        "slo_class": st.just("batch"),
        "slo_tenant": st.text(max_size=4),
    },
)
_OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "vllm_xargs": st.none() | _GOOD_XARGS | _GOOD_XARGS | _XARGS | _JSON,
        "sampling_params": st.dictionaries(st.sampled_from(["n", "extra_args"]), _JSON | _XARGS),
        "n": _JSON,
        "best_of": _JSON,
        "use_beam_search": _JSON,
        "background": _JSON,
        "prompt": _JSON,
        "messages": _JSON,
        "service_tier": st.sampled_from(["priority", "flex", "auto"]) | _JSON,
        "user": _JSON,
    },
).map(lambda body: json.dumps(body).encode())
_BODIES = (
    _OBJECTS
    | _OBJECTS
    | _OBJECTS
    | _JSON.map(lambda body: json.dumps(body).encode())
    | st.binary(max_size=64)
)
_GOOD = [b"5", b"0.5", b"interactive", b"batch", b"wait", b"degrade"]
_NONE: st.SearchStrategy[list[tuple[bytes, bytes]]] = st.just([])
_HEADERS = _NONE | st.lists(
    # mostly well-formed ones, else nearly every request is a 400
    st.tuples(st.sampled_from(_NAMES).map(str.encode), st.sampled_from([b"5", b"0.5", b"7e3"]))
    | st.tuples(
        st.sampled_from(CLASS_HEADERS).map(str.encode), st.sampled_from([b"interactive", b"batch"])
    )
    | st.tuples(
        st.sampled_from(_NAMES + _OTHER_NAMES).map(str.encode),
        st.sampled_from([*_GOOD, b"0", b"-1", b"1e999", b""]) | st.binary(max_size=12),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(
    body=_BODIES,
    headers=_HEADERS,
    path=st.sampled_from(_PATHS),
    cut=st.integers(0, 64),
    default=st.sampled_from([None, "interactive"]),
    streaming=st.booleans(),
    outcome=st.sampled_from(["tokens", "refused"]),
)
def test_any_request(
    body: bytes,
    headers: list[tuple[bytes, bytes]],
    path: str,
    cut: int,
    default: str | None,
    streaming: bool,
    outcome: str,
) -> None:
    engine = FakeEngine([tokens(2) if outcome == "tokens" else refused()])
    server = FakeServer(engine, CONFIG | {"default_class": default})
    server.behave = fake.stream_chat if streaming else fake.answer_chat
    user = client(server)
    sent = user.request("POST", path, [body[:cut], body[cut:]], headers)
    reply = asyncio.run(asyncio.wait_for(sent, timeout=10))
    assert reply.complete
    event(f"status {reply.status}")
    if reply.status == 400:
        assert server.bodies == []
        assert reply.json()["error"]["param"]
        return
    if outcome == "refused" and streaming and reply.status == 200:
        event("error event")  # no policy may refuse it, so it was not held
        assert b'"code": 429' in reply.chunks[-1]
    else:
        assert reply.status == (200 if outcome == "tokens" else 429)
    (arrived,) = server.bodies
    length = dict(server.scopes[0]["headers"])[b"content-length"]
    assert int(length) == len(arrived)
    event("body as received" if arrived == body else "values folded in")
    if arrived != body:
        _only_xargs_were_added(json.loads(body), json.loads(arrived))


def _only_xargs_were_added(before: dict[str, Any], after: dict[str, Any]) -> None:
    for body in (before, after):
        body.pop("vllm_xargs", None)
        if isinstance(params := body.get("sampling_params"), dict):
            params.pop("extra_args", None)
    assert repr(before) == repr(after)  # repr: NaN equals itself
