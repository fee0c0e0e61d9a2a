"""Does a class more come as often, and as long, as it is said?"""

from __future__ import annotations

import math

import pytest

from workloads.added_class import parse_class, with_class
from workloads.errors import WorkloadError
from workloads.load import LoadKey
from workloads.request import WorkloadRequest

BASE = LoadKey("azure-conv-synth", "0:300", "product", 0.5, 0).requests()


def test_what_is_there_stays_and_what_is_new_is_as_it_was_said() -> None:
    added = parse_class("review: rps=2, ttft=2000, tpot=80, like=chat")
    found = with_class(BASE, added, 3)
    new = [request for request in found if request.slo_class == "review"]
    old = [request for request in found if request.slo_class != "review"]
    assert old == BASE
    assert [r.send_s for r in found] == sorted(r.send_s for r in found)
    assert len({r.index for r in found}) == len(found)
    span_s = BASE[-1].send_s
    assert len(new) == pytest.approx(2.0 * span_s, abs=4.0 * math.sqrt(2.0 * span_s))
    assert {(r.ttft_slo_s, r.tpot_slo_s, r.e2e_slo_s) for r in new} == {(2.0, 0.08, math.inf)}
    like = {(r.prompt_tokens, r.output_tokens) for r in BASE if r.slo_class == "chat"}
    assert {(r.prompt_tokens, r.output_tokens) for r in new} <= like
    assert not any(r.hash_ids or r.tenant for r in new)
    assert with_class(BASE, added, 3) == found
    assert with_class(BASE, added, 4) != found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("review", "must be NAME:rps=R"),
        (":rps=1,ttft=9", "must be NAME:rps=R"),
        ("a:rps=1,rps=2,ttft=9", "must be NAME:rps=R"),
        ("a:rps=1,speed=9", "unknown part of add-class 'a' 'speed'; valid: e2el, like, rps, tpot"),
        ("a:rps=1", "needs rps, and one of ttft, tpot, e2el"),
        ("a:ttft=9", "needs rps, and one of"),
        ("a:rps=0,ttft=9", r"rps=0 must be a number in \(0, 100000\]"),
        ("a:rps=1,ttft=nan", "ttft=nan must be a number"),
        ("a:rps=1,ttft=9,like=zz", "unknown class 'zz'; valid: agent, batch, chat, doc"),
        ("chat:rps=1,ttft=9", "'chat' is there already; --tighten changes it"),
        ("a:rps=1e-9,ttft=9", "rps=1e-09 is no request in"),
    ],
)
def test_a_wrong_word_is_one_line(text: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said) as told:
        with_class(BASE, parse_class(text))
    assert len(str(told.value).splitlines()) == 1


def test_it_says_what_it_is() -> None:
    assert str(parse_class("a:rps=0.5,ttft=300")) == "a: 0.5 requests/s with ttft 0.3 s"
    assert WorkloadRequest(0, 0.0, 1, 1, (), "", 1.0, 1.0).max_tokens is None
