"""Bytes to events, however the network cuts them; events to tokens, whatever the server sends."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.replay.sse import MAX_EVENT_BYTES, EventTooLong, SseSplitter
from workloads.replay.token_stream import TokenStream
from workloads.results.records import Outcome

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
    assert stream.output_tokens <= 1_000_000
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


STOP = {"choices": [{"text": "", "finish_reason": "stop"}]}


def chunk(text: str, reason: object = None, total: object = "absent") -> dict[str, object]:
    usage = {} if total == "absent" else {"usage": {"completion_tokens": total}}
    return {"choices": [{"text": text, "finish_reason": reason}], **usage}


@pytest.mark.parametrize("no_end", ["", "null", "None", " ", None])
def test_a_finish_reason_that_says_nothing_ends_nothing(no_end: object) -> None:
    cut = feed(chunk("a", no_end), chunk("b", no_end))
    assert cut.verdict().outcome is Outcome.FAILED
    assert cut.verdict().error == "the stream ended without a finish reason"
    whole = feed(chunk("a", no_end), chunk("b", no_end), STOP)
    assert whole.verdict().outcome is Outcome.FINISHED


def test_a_reason_that_is_no_proper_end_is_a_failure() -> None:
    verdict = feed(chunk("a"), chunk("", "out_of_memory")).verdict()
    assert verdict.outcome is Outcome.FAILED
    assert "'out_of_memory'" in (verdict.error or "")


@pytest.mark.parametrize("useless", [0, None, True, -3, 10**9, "7", "absent"])
@pytest.mark.parametrize("where", ["with the end", "after it", "never"])
def test_a_usage_that_says_nothing_counts_nothing(useless: object, where: str) -> None:
    """Four tokens a second apart; the total is useless until the end, or for ever."""
    end = chunk("", "stop", 4 if where == "with the end" else useless)
    usage: dict[str, object] = {"choices": [], "usage": {"completion_tokens": 4}}
    last = [end, usage] if where == "after it" else [end]
    stream = feed(*(chunk("a", None, useless) for _ in range(4)), *last)
    assert stream.verdict().outcome is Outcome.FINISHED
    assert stream.token_times_s == [0.0, 1.0, 2.0, 3.0]
    assert stream.output_tokens == 4


def test_a_usage_of_each_chunk_alone_is_no_running_total() -> None:
    stream = feed(*(chunk("a", None, 1) for _ in range(5)), chunk("", "stop", 1))
    assert stream.token_times_s == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert (stream.output_tokens, stream.exact_token_times_s) == (5, None)


def test_one_token_in_two_pieces_stays_one() -> None:
    stream = feed(chunk("a", None, 1), chunk("b", None, 1), chunk("c", None, 2), chunk("", "stop"))
    assert stream.exact_token_times_s == (0.0, 2.0)


def test_tokens_without_text_count_where_the_total_grows() -> None:
    stream = feed(chunk("", None, 0), chunk("", None, 1), chunk("é", None, 3), chunk("", "stop"))
    assert stream.exact_token_times_s == (1.0, 2.0, 2.0)


@pytest.mark.parametrize(
    "payload",
    [
        {"object": "error", "message": "boom", "code": 500},
        {"error": {"message": "boom"}},
        {"error": "boom"},
    ],
)
def test_an_error_in_any_shape_is_a_failure_though_done_follows(payload: object) -> None:
    stream = feed(chunk("a"), payload)
    stream.feed(9.0, "", b"[DONE]")
    assert stream.verdict().outcome is Outcome.FAILED
    assert stream.verdict().error == "boom"


@pytest.mark.parametrize("nothing", [None, "", {}, False])
def test_an_empty_error_is_none(nothing: object) -> None:
    assert feed({"error": nothing, **chunk("a")}, STOP).verdict().outcome is Outcome.FINISHED


def test_what_a_server_says_is_fit_for_a_terminal() -> None:
    error = feed({"error": "a\x1b[2J\ud800\n" + "x" * 1000}).verdict().error or ""
    assert error.isprintable()
    assert len(error) == 300
    deep = TokenStream()
    deep.feed(0.0, "", b"[" * 100_000)
    assert deep.verdict().outcome is Outcome.FAILED


def test_a_byte_order_mark_and_bare_returns() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"\xef\xbb\xbfdata: a\r\rdata: b\r\n\r") == [("", b"a"), ("", b"b")]
    assert splitter.feed(b"\ndata: c\n\n") == [("", b"c")]


def test_an_endless_event_is_given_up() -> None:
    splitter = SseSplitter()
    piece = b"x" * 2**20
    for _ in range(MAX_EVENT_BYTES // len(piece)):
        splitter.feed(piece)
    with pytest.raises(EventTooLong):
        splitter.feed(piece)
