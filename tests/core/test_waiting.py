"""Is the waiting table the sorted list it claims to be, after any history?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from scorpio.core.waiting import WaitingTable


def make_view(seq: int, **changes: object) -> RequestView:
    facts: dict[str, object] = {
        "request_id": f"r{seq}",
        "seq": seq,
        "arrival_s": float(seq),
        "prompt_tokens": 10 + seq,
        "max_tokens": 100,
        "slo": Slo(1.0, 0.05, value=2.5),
    }
    return RequestView(**(facts | changes))  # type: ignore[arg-type]


class TableAgainstSortedList(RuleBasedStateMachine):
    """The oracle keeps (key, seq, view, started) and sorts it anew for each comparison."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.table = WaitingTable()
        self.oracle: dict[str, tuple[float, int, RequestView, bool]] = {}
        self.seq = 0

    @rule(
        target=ids,
        count=st.integers(1, 90),  # crosses the first capacity of 64
        key=st.one_of(st.sampled_from([0.0, 1.0, math.inf, -math.inf]), st.floats(-5, 5)),
        started=st.booleans(),
        on_miss=st.sampled_from(OnMiss),
        predicted=st.sampled_from([math.nan, 7.0, 1e9]),
        tpot_s=st.sampled_from([0.05, math.inf]),
    )
    def add(
        self,
        count: int,
        key: float,
        started: bool,
        on_miss: OnMiss,
        predicted: float,
        tpot_s: float,
    ) -> object:
        names = []
        for _ in range(count):
            self.seq += 1
            view = make_view(
                self.seq,
                slo=Slo(tpot_s=tpot_s, on_miss=on_miss),
                predicted_output_tokens=predicted,
            )
            self.table.add(view, key, started)
            self.oracle[view.request_id] = (
                -math.inf if started else key,
                view.seq,
                view,
                started,
            )
            names.append(view.request_id)
        return multiple(*names)

    @rule(name=ids)
    def remove(self, name: str) -> None:
        entry = self.oracle.pop(name, None)
        assert self.table.remove(name) is (None if entry is None else entry[2])

    @rule(names=st.lists(ids, max_size=20, unique=True))
    def remove_many(self, names: list[str]) -> None:
        self.table.remove_many(names)
        for name in names:
            self.oracle.pop(name, None)

    @rule(name=ids)
    def adding_twice_is_refused(self, name: str) -> None:
        if name in self.oracle:
            with pytest.raises(ValueError, match="already waiting"):
                self.table.add(self.oracle[name][2], 0.0)

    @invariant()
    def same_as_oracle(self) -> None:
        entries = sorted(self.oracle.values(), key=lambda e: e[:2])
        views = [e[2] for e in entries]
        table = self.table
        assert len(table) == len(views)
        assert list(table) == views
        assert all(table[row] is view for row, view in enumerate(views))
        assert all(name in table for name in self.oracle)
        assert table.seqs().tolist() == [v.seq for v in views]
        assert table.deadline_s.tolist() == [v.deadline_s for v in views]
        assert table.tpot_slo_s.tolist() == [v.slo.tpot_s for v in views]
        assert table.value.tolist() == [v.slo.value for v in views]
        assert table.prompt_tokens.tolist() == [v.prompt_tokens for v in views]
        assert table.arrival_s.tolist() == [v.arrival_s for v in views]
        assert np.array_equal(
            table.predicted_output_tokens,
            [v.predicted_output_tokens for v in views],
            equal_nan=True,
        )
        assert table.expected_output_tokens.tolist() == [v.expected_output_tokens for v in views]
        started = [e[3] for e in entries]
        assert table.started.tolist() == started
        for flags, kind in ((table.rejectable, OnMiss.REJECT), (table.degradable, OnMiss.DEGRADE)):
            expected = [
                not e[3] and e[2].slo.on_miss is kind and (e[2].slo.any or kind is OnMiss.DEGRADE)
                for e in entries
            ]
            assert flags.tolist() == expected


TestTableAgainstSortedList = TableAgainstSortedList.TestCase
TestTableAgainstSortedList.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None
)


def test_ties_go_by_arrival_and_started_ones_come_first() -> None:
    table = WaitingTable()
    for seq, key, started in ((3, 5.0, False), (1, 5.0, False), (2, 4.0, False), (9, 99.0, True)):
        table.add(make_view(seq), key, started)
    assert [v.seq for v in table] == [9, 2, 1, 3]


def test_nan_key_is_refused_and_changes_nothing() -> None:
    table = WaitingTable()
    with pytest.raises(ValueError, match="NaN"):
        table.add(make_view(1), math.nan)
    assert len(table) == 0
    assert "r1" not in table


def test_removing_an_unknown_id_is_none() -> None:
    assert WaitingTable().remove("unknown") is None


def test_repeated_seq_still_removes_the_right_one() -> None:
    table = WaitingTable()
    for name in "abc":
        table.add(make_view(1, request_id=name), 0.0)
    assert table.remove("b") is not None
    assert sorted(v.request_id for v in table) == ["a", "c"]


def test_many_are_removed_at_once_and_strangers_are_left_alone() -> None:
    table = WaitingTable()
    for seq in range(40):
        table.add(make_view(seq, request_id=f"q{seq}"), float(-seq))
    table.remove_many([*(f"q{seq}" for seq in range(0, 40, 2)), "stranger"])
    assert [v.seq for v in table] == list(range(39, 0, -2))
    assert table.seqs().tolist() == list(range(39, 0, -2))
    assert "q0" not in table
    assert table.remove("q1") is not None


@pytest.mark.parametrize("on_miss", OnMiss)
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("slo", [Slo(1.0), Slo()])
def test_which_may_be_refused_or_put_off(slo: Slo, on_miss: OnMiss, started: bool) -> None:
    """None after its first token, and none that asked for nothing."""
    table = WaitingTable()
    table.add(make_view(1, slo=replace(slo, on_miss=on_miss)), 0.0, started)
    new = not started
    assert table.started.tolist() == [started]
    assert table.rejectable.tolist() == [new and on_miss is OnMiss.REJECT and slo.any]
    assert table.degradable.tolist() == [new and on_miss is OnMiss.DEGRADE]


def test_a_key_that_is_no_number_and_a_name_that_waits_are_turned_away() -> None:
    table = WaitingTable()
    table.add(make_view(1), 0.0)
    with pytest.raises(ValueError, match="NaN"):
        table.add(make_view(2), math.nan)
    with pytest.raises(ValueError, match="already waiting"):
        table.add(make_view(1), 5.0)
    assert table.seqs().tolist() == [1]


@pytest.mark.parametrize("count", [2, 40])
def test_unknown_names_are_left_alone(count: int) -> None:
    table = WaitingTable()
    for seq in range(50):
        table.add(make_view(seq), float(seq))
    table.remove_many([f"r{seq}" for seq in range(count)] + ["gone"])
    assert table.seqs().tolist() == list(range(count, 50))
    assert [view.seq for view in table] == list(range(count, 50))
    assert table.prompt_tokens.tolist() == [10.0 + seq for seq in range(count, 50)]
    assert table.remove("gone") is None


def test_prefill_is_the_prompt_less_what_is_cached() -> None:
    table = WaitingTable()
    table.add(make_view(5, cached_tokens=4), 0.0)
    assert table.prefill_tokens.tolist() == [11.0]
    table.prefill_tokens[0] = 0.0  # a copy
    assert table.prefill_tokens.tolist() == [11.0]
