"""Bytes to events, however the network cuts them; events to tokens, whatever the server sends."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.records import Outcome
from workloads.sse import SseSplitter
from workloads.token_stream import TokenStream

STREAM = (
    b': ping\n\ndata: {"a": 1}\r\n\r\nevent: error\ndata: x\ndata:y\n\nid: 7\n\ndata: [DONE]\n\n'
)
EVENTS = [("", b'{"a": 1}'), ("error", b"x\ny"), ("", b"[DONE]")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    splitter = SseSplitter()
    edges = [0, *sorted(cuts), len(STREAM)]
    seen = [
        event
        for start, end in itertools.pairwise(edges)
        for event in splitter.feed(STREAM[start:end])
    ]
    assert seen == EVENTS


def test_a_last_event_without_its_blank_line_is_not_lost() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: [DONE]") == []
    assert splitter.close() == [("", b"[DONE]")]
    assert splitter.close() == []


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_garbage_never_raises(first: bytes, second: bytes) -> None:
    splitter, stream = SseSplitter(), TokenStream()
    for chunk in (b"data: " + first + b"\n\n", second):
        for event, data in splitter.feed(chunk):
            stream.feed(1.0, event, data)
    assert stream.verdict().outcome is not Outcome.FINISHED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "usage", "completion_tokens", "delta", "text", "token_ids", "logprobs",
             "finish_reason", "stop_reason", "error", "tokens", "content"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(json_values, max_size=6))
def test_any_json_gives_a_consistent_state(payloads: list[object]) -> None:
    stream = TokenStream()
    for step, payload in enumerate(payloads):
        stream.feed(float(step), "", json.dumps(payload).encode())
    times = stream.token_times_s
    assert times == sorted(times)
    assert (stream.output_tokens > 0) == bool(times)
    exact = stream.exact_token_times_s
    assert exact is None or len(exact) == stream.output_tokens
    if stream.verdict().outcome is Outcome.FINISHED:
        assert times


def feed(*payloads: object) -> TokenStream:
    stream = TokenStream()
    for step, payload in enumerate(payloads):
        stream.feed(float(step), "", json.dumps(payload).encode())
    return stream


def test_usage_that_comes_only_with_the_last_chunk_counts_but_is_not_exact() -> None:
    chunk = {"choices": [{"text": "ab"}]}
    last = {"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}
    stream = feed(chunk, chunk, last)
    assert stream.output_tokens == 5
    assert stream.exact_token_times_s is None
    assert stream.verdict().outcome is Outcome.FINISHED


@pytest.mark.parametrize(
    "delta", [{"content": "x"}, {"reasoning_content": "x"}, {"tool_calls": [1]}]
)
def test_chat_deltas_that_carry_something_are_tokens(delta: dict[str, object]) -> None:
    role = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    assert feed(role, {"choices": [{"delta": delta}]}).token_times_s == [1.0]
