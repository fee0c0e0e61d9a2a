"""Does it say, in words, why a request waited, was refused or was late?"""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.core.plan import RejectReason
from scorpio.ledger.sentences import explain
from scorpio.ledger.words import count, ms_text, tokens
from tests.ledger.made import entry, refused


def told(made: Any) -> str:
    return "\n".join(explain(made))


def test_a_request_in_time() -> None:
    assert explain(entry()) == [
        "chatcmpl-aa11-0123abcd: served, in time.",
        "It came at 2027-01-15 08:00:00 UTC with 600 tokens of prompt and asked for at most 100"
        " tokens, 52 were expected. It was of tenant f6ace85dd5b8.",
        "It was to have its first token within 500 ms, a further token every 50 ms (class chat),"
        " or else to be refused.",
        "When it came, none waited and 3 requests ran.",
        "It started at once.",
        "Its first token was predicted after 200 ms, then a token every 40 ms.",
        "Its first token came after 180 ms, 180 ms after its start: 320 ms to spare.",
        "It got 51 tokens, one every 40 ms on average (asked: 50 ms); the longest gap was 60 ms.",
        "It ended after 2.18 s (stop).",
        "Policy: scorpio, of Scorpio 0.1.0, on engine 0.",
    ]


def test_a_refused_request() -> None:
    assert explain(refused(steps=2, starts=1, step_tokens=700)) == [
        "cmpl-bb22-0-4567cdef: refused after 20 ms, ttft_infeasible.",
        "It came at 2027-01-15 08:00:00 UTC with 600 tokens of prompt and asked for at most 100"
        " tokens, 52 were expected. It was of tenant f6ace85dd5b8.",
        "It was to have its first token within 500 ms, a further token every 50 ms (class chat),"
        " or else to be refused.",
        "When it came, 12 requests waited (9,000 tokens of prompt) and 3 requests ran. Of those"
        " that waited 10 were due before it, with 8,400 tokens to prefill.",
        "While it waited, 1 other request started, in 2 steps with 700 tokens.",
        "Its first token was predicted after 900 ms at best, and it was due within 500 ms."
        " It was refused after 20 ms.",
        "Its client was told to come back after 2.4 s.",
        "Policy: scorpio, of Scorpio 0.1.0, on engine 0.",
    ]


@pytest.mark.parametrize("reason", list(RejectReason))
def test_every_reason_has_its_sentence(reason: RejectReason) -> None:
    text = told(refused(reason=reason.value))
    assert "The reason was" not in text
    known = {told(refused(reason=r.value)).split("\n")[4] for r in RejectReason}
    assert len(known) == len(RejectReason)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({"attainable_ttft_ms": 300.0}, "Not all that waited could have their first token in time"),
        (
            {"retry_after_ms": None, "never": True},
            "not to try again: not even an idle engine could do it",
        ),
        ({"retry_after_ms": None}, "no time to come back: under that load none could be promised"),
        ({"retry_after_ms": 99_000.0}, "to come back after 30 s"),
        ({"started_ms": 15.0}, "Its prompt was begun after 15 ms; it had no token yet."),
        ({"due_before": 0}, "None of those that waited was due before it."),
        ({"due_before": 12}, "12 were due before it"),
        ({"reason": "of a later version"}, "The reason was of a later version."),
    ],
)
def test_refusals(what: dict[str, Any], sentence: str) -> None:
    assert sentence in told(refused(**what))


LATE = {"verdict": "degraded", "missed": ("ttft",), "started_ms": 600.0, "first_token_ms": 700.0}


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (LATE, "served, but it missed TTFT."),
        (LATE, "By then its first token could not come in time, and it was due within 500 ms"),
        (LATE | {"on_miss": "degrade"}, "behind those still in time"),
        (LATE | {"on_miss": "wait"}, "it was to wait all the same"),
        (LATE, "200 ms late, most of it waiting."),
        (LATE | {"started_ms": 10.0}, "200 ms late, most of it computing its prompt."),
        (
            {"started_ms": 600.0, "starts": 3, "steps": 9, "step_tokens": 1200},
            "It waited 600 ms before it started: 3 other requests started first, in 9 steps",
        ),
        ({"started_ms": 600.0, "steps": 9}, "served those that ran, and left no room for it."),
        ({"started_ms": 20.0}, "for the end of the step that was being computed."),
        ({"cached_tokens": 512}, "Of its prompt 512 tokens were in the prefix cache."),
        ({"preemptions": 2}, "It was preempted 2 times"),
        ({"missed": ("tpot",)}, "steps were longer than its TPOT SLO"),
        ({"missed": ("tpot",), "preemptions": 1}, "preemption took time from its tokens"),
        ({"missed": ("tpot",), "worst_gap_ms": 900.0}, "one gap was much longer than the others"),
        ({"missed": ("ttft", "tpot")}, "it missed TTFT and TPOT"),
        ({"outcome": "aborted", "finish_reason": "abort"}, "Its client left after 2.18 s."),
        ({"outcome": "failed", "finish_reason": "error"}, "It failed after 2.18 s (error)."),
        ({"outcome": "aborted", "started_ms": None, "verdict": "none"}, "before it started."),
        (
            {"slo_ttft_ms": None, "slo_tpot_ms": None},
            "It had no SLO: nothing was promised, so it could not be late.",
        ),
        ({"slo_class": "none"}, "a further token every 50 ms, or else"),
        ({"id": "x\x1b[31m\n\u202e"}, "x\\x1b[31m\\n\\u202e: served"),
    ],
)
def test_what_was_served(what: dict[str, Any], sentence: str) -> None:
    assert sentence in told(entry(**what))


def test_numbers_are_for_people() -> None:
    assert [ms_text(ms) for ms in (0.0, 0.25, 340.4, 999.6, 2400.0, 95_000.0, 4e6)] == [
        *("0 ms", "0.25 ms", "340 ms", "1 s", "2.4 s", "95 s", "4,000 s")
    ]
    assert [count(n, "step") for n in (0, 1, 1200)] == ["no step", "1 step", "1,200 steps"]
    assert [tokens(n) for n in (0, 1, 8400)] == ["0 tokens", "1 token", "8,400 tokens"]
