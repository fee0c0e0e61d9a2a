"""Who computes a beginning that several prompts have in common, and what is left for the others?"""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.policies.scorpio.shared_work import SharedWork, shared_work
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.waiting import WaitingTable


def waiting(*prompts: tuple[int, int, int, int]) -> WaitingTable:
    """Each: prompt tokens, cached ones, tokens in common, number of the beginning."""
    table = WaitingTable()
    for seq, (tokens, cached, shared, number) in enumerate(prompts):
        view = RequestView(f"r{seq}", seq, 0.0, tokens, 8, Slo(), cached_tokens=cached,
                           shared_tokens=shared, shared_id=number)  # fmt: skip
        table.add(view, float(seq))
    return table


def columns(work: SharedWork) -> list[list[float]]:
    return [x.tolist() for x in (work.tokens, work.prefix, work.common, work.shared_id)]


ALL = slice(None)


def test_the_first_computes_and_the_others_follow() -> None:
    table = waiting((100, 0, 80, 7), (90, 0, 80, 7), (50, 10, 0, 0), (120, 16, 80, 7))
    assert columns(shared_work(table, ALL, ())) == [
        [100.0, 10.0, 40.0, 40.0],  # the last one: 120 less 16 cached less 64 more in common
        [0.0, 80.0, 10.0, 80.0],
        [80.0, 0.0, 0.0, 0.0],
        [7.0, 7.0, 0.0, 7.0],
    ]
    assert table.prefill_tokens.tolist() == [100.0, 90.0, 40.0, 104.0]  # the table stays


def test_all_follow_one_that_runs() -> None:
    table = waiting((100, 0, 80, 7), (90, 0, 80, 7), (70, 0, 60, 9), (66, 0, 60, 9))
    assert columns(shared_work(table, ALL, {7})) == [
        [20.0, 10.0, 70.0, 6.0],
        [80.0, 80.0, 0.0, 60.0],
        [0.0, 0.0, 60.0, 0.0],
        [7.0, 7.0, 9.0, 9.0],
    ]


def test_what_no_other_needs_or_the_cache_holds_is_not_in_common() -> None:
    table = waiting((100, 0, 80, 7), (90, 80, 80, 8), (90, 64, 80, 0))
    assert columns(shared_work(table, ALL, ())) == [
        [100.0, 10.0, 26.0],
        [0.0, 80.0, 64.0],
        [0.0, 0.0, 0.0],
        [7.0, 0.0, 0.0],
    ]


def test_only_the_rows_asked_for_count() -> None:
    table = waiting((100, 0, 80, 7), (90, 0, 80, 7))
    assert columns(shared_work(table, slice(1, None), ())) == [[90.0], [0.0], [0.0], [7.0]]
    which = np.array([False, False])
    assert columns(shared_work(table, which, ())) == [[], [], [], []]
    assert math.isfinite(table.prompt_tokens.sum())
