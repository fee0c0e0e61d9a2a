"""Are targets and changed promises read as meant, and refused where they cannot be answered?"""

from __future__ import annotations

import re

import pytest

from workloads.errors import UnknownName, WorkloadError
from workloads.load import LoadKey
from workloads.slo_changes import changed, parse_changes
from workloads.targets import ALL, class_counts, parse_targets

REQUESTS = LoadKey("cpu-demo", "0:100", "product", 1.0, 0).requests()


def test_targets_are_shares_or_percentages() -> None:
    assert parse_targets("0.95").shares == parse_targets("95").shares == {ALL: 0.95}
    found = parse_targets("90, chat=95,agent=0.8")
    assert found.shares == {ALL: 0.9, "chat": 0.95, "agent": 0.8}
    assert str(found) == "90 % of all, 95 % of chat, 80 % of agent"


@pytest.mark.parametrize("text", ["0", "1", "1.5", "100", "-3", "nan", "x", "chat=", "chat=x", ""])
def test_numbers_that_are_neither_are_refused(text: str) -> None:
    with pytest.raises(WorkloadError, match=r"must be a share in \(0, 1\), as 0.95, or a perc"):
        parse_targets(text)


@pytest.mark.parametrize("text", ["95,95", "chat=90,chat=80", "=95"])
def test_a_class_once_each(text: str) -> None:
    with pytest.raises(WorkloadError, match="a class once each, as in chat=95,agent=90"):
        parse_targets(text)


def test_classes_are_those_of_the_load() -> None:
    assert class_counts(REQUESTS) == {ALL: 100, "agent": 20, "batch": 10, "chat": 50, "doc": 20}
    parse_targets("90,chat=90").check(REQUESTS)
    with pytest.raises(UnknownName, match="unknown class 'chart'; valid: agent, all, batch"):
        parse_targets("chart=95").check(REQUESTS)


def test_too_few_requests_to_tell_are_told() -> None:
    expected = (
        "target of agent: 20 requests are too few for 90 %; were all of them good, it could be"
        " 83.9 % as well: take more of the trace"
    )
    with pytest.raises(WorkloadError, match=re.escape(expected)):
        parse_targets("agent=90").check(REQUESTS)
    parse_targets("agent=80").check(REQUESTS)


def test_promises_of_a_class_are_changed_and_no_other() -> None:
    changes = parse_changes("tpot.chat=40, ttft.doc=900,e2el.doc=9000")
    assert [str(change) for change in changes] == ["tpot.chat=40", "ttft.doc=900", "e2el.doc=9000"]
    for before, after in zip(REQUESTS, changed(REQUESTS, changes), strict=True):
        assert (after.index, after.send_s) == (before.index, before.send_s)
        if before.slo_class == "chat":
            assert (before.tpot_slo_s, after.tpot_slo_s) == (0.06, 0.04)
            assert after.ttft_slo_s == before.ttft_slo_s
        elif before.slo_class == "doc":
            assert (after.ttft_slo_s, after.e2e_slo_s) == (0.9, 9.0)
        else:
            assert after == before
    assert changed(REQUESTS, ()) == REQUESTS
    assert parse_changes(None) == ()
    with pytest.raises(UnknownName, match="unknown class 'nope'; valid: agent"):
        changed(REQUESTS, parse_changes("tpot.nope=40"))


@pytest.mark.parametrize("text", ["", "tpot.chat", "tpot=40", "tpot.chat=0", "x.chat=4", "tpot.=4"])
def test_malformed_changes_are_refused(text: str) -> None:
    with pytest.raises(WorkloadError, match=r"must be OBJECTIVE.CLASS=MS, as tpot.chat=40; objec"):
        parse_changes(text)
    with pytest.raises(WorkloadError, match="changed twice"):
        parse_changes("tpot.chat=4,tpot.chat=5")
