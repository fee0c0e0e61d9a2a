"""Is a draw from a trace other traffic of the same kind, and the same one each time?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workloads.load import LoadKey
from workloads.request import WorkloadRequest
from workloads.resampled import block_length, resampled

LOAD = LoadKey("azure-conv-synth", "0:200", "product", 2.0, 0)


def kinds(requests: list[WorkloadRequest]) -> list[tuple[int, int, str]]:
    return [(r.prompt_tokens, r.output_tokens, r.slo_class) for r in requests]


def test_the_first_draw_is_the_trace_and_the_others_differ() -> None:
    trace = LOAD.requests()
    assert resampled(trace, 0, 0) == trace
    first, second = resampled(trace, 0, 1), resampled(trace, 0, 2)
    assert first == resampled(trace, 0, 1)
    assert kinds(first) != kinds(second)
    assert kinds(first) != kinds(resampled(trace, 1, 1))
    assert set(kinds(first)) <= set(kinds(trace))


def test_a_draw_is_a_load() -> None:
    trace = LOAD.requests()
    for draw in range(1, 20):
        drawn = resampled(trace, 0, draw)
        assert [r.index for r in drawn] == list(range(len(trace)))
        times_s = np.array([r.send_s for r in drawn])
        assert times_s[0] == trace[0].send_s
        assert (np.diff(times_s) >= 0.0).all()


def test_blocks_keep_their_gaps_and_their_order() -> None:
    trace = LOAD.requests()
    place = {kind: row for row, kind in enumerate(kinds(trace))}
    assert len(place) > 0.9 * len(trace)
    drawn = resampled(trace, 0, 1)
    rows = [place[kind] for kind in kinds(drawn)]
    neighbours = [n for n in range(1, len(rows)) if rows[n] == rows[n - 1] + 1]
    assert len(neighbours) > 0.8 * len(rows)
    for n in neighbours:
        gap_s = trace[rows[n]].send_s - trace[rows[n - 1]].send_s
        assert drawn[n].send_s - drawn[n - 1].send_s == pytest.approx(gap_s)


def test_the_mean_rate_is_that_of_the_trace_and_scatters() -> None:
    trace = LOAD.requests()
    spans_s = [resampled(trace, 0, draw)[-1].send_s for draw in range(1, 200)]
    assert np.mean(spans_s) == pytest.approx(trace[-1].send_s, rel=0.05)
    assert np.std(spans_s) > 0.01 * trace[-1].send_s


def test_a_second_copy_shares_no_prompt_with_the_first() -> None:
    trace = [replace(r, hash_ids=(7, -3 - r.index)) for r in LOAD.requests()]
    drawn = resampled(trace, 0, 1)
    own = [r.hash_ids[1] for r in drawn]
    assert len(set(own)) == len(own)
    assert [r.hash_ids[0] for r in drawn].count(7) > len(drawn) // 3


def test_short_traces() -> None:
    trace = LOAD.requests()
    assert [block_length(n) for n in (1, 2, 9, 100, 800)] == [1, 1, 3, 10, 80]
    assert resampled(trace[:1], 0, 1) == trace[:1]
    assert len(resampled(trace[:2], 0, 1)) == 2
