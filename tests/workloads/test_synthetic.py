"""Does a synthetic workload follow its table, and is every mistake in a table named?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import WorkloadError
from workloads.named import read_entry
from workloads.synthetic.fit import prefix_hit_ratio
from workloads.synthetic.generate import (
    PrefixModel,
    Synthetic,
    draw_tenants,
    from_table,
    share_prefixes,
    synthetic_rows,
)
from workloads.traces.row import block_count


def table(**changes: Any) -> dict[str, Any]:
    return {
        "requests": 5,
        "arrivals": {"process": "poisson", "rate_rps": 2.0},
        "prompt_tokens": {"p": [0.0, 1.0], "tokens": [10, 3000]},
        "output_tokens": {"p": [0.0, 1.0], "tokens": [5, 50]},
        **changes,
    }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**50), n=st.integers(1, 80))
def test_rows_are_in_range_and_start_the_same(seed: int, n: int) -> None:
    spec = from_table(table(tenants={"a": 3.0, "b": 1.0}))
    rows = synthetic_rows(spec, n, seed)
    assert rows == synthetic_rows(spec, n + 10, seed)[:n]
    assert rows[0].arrival_s == 0.0
    for row in rows:
        assert 10 <= row.prompt_tokens <= 3000
        assert 5 <= row.output_tokens <= 50
        assert row.tenant in ("a", "b")
        assert len(row.hash_ids) == block_count(row.prompt_tokens)
    ids = [i for row in rows for i in row.hash_ids]
    assert len(ids) == len(set(ids))


def test_lengths_do_not_depend_on_arrivals() -> None:
    other = from_table(table(arrivals={"process": "gamma", "rate_rps": 9.0, "cv": 5.0}))
    pairs = [
        [(r.prompt_tokens, r.output_tokens) for r in synthetic_rows(spec, 50, 3)]
        for spec in (from_table(table()), other)
    ]
    assert pairs[0] == pairs[1]


def test_tenants_follow_their_weights() -> None:
    counts = Counter(draw_tenants({"a": 3.0, "b": 1.0}, 20_000, 1))
    assert counts["a"] / 20_000 == pytest.approx(0.75, abs=0.015)
    assert draw_tenants({}, 2, 1) == ["", ""]


def test_prefixes_by_hand() -> None:
    always = PrefixModel(system_blocks=1, continue_share=1.0, window=1)
    at = np.array([0.0, 1.0, 2.0, 3.0])
    first, second, third, short = share_prefixes([1024, 2048, 1500, 100], at, always, 0)
    assert first == (0, 1)
    assert second == (0, 2, 3, 4)  # the parent's last block is not shared, the system block is
    assert third == (0, 2, 5)  # two whole blocks fit 1500 tokens; the third is its own
    assert short == (6,)  # shorter than a block: nothing to share
    never = PrefixModel(system_blocks=0, continue_share=0.0, window=1)
    assert share_prefixes([600, 600], at[:2], never, 0) == [(0, 1), (2, 3)]


def test_a_turn_comes_after_the_one_it_follows() -> None:
    """The third may follow the first, which came two seconds before it, not the second."""
    after = PrefixModel(system_blocks=0, continue_share=1.0, window=1, pause_s=2.0)
    made = share_prefixes([1024, 1024, 1500, 1024], np.array([0.0, 0.5, 2.0, 2.0]), after, 0)
    assert made == [(0, 1), (2, 3), (0, 4, 5), (0, 6)]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6000), max_size=40),
    system=st.integers(0, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**50),
)
def test_prefixes_cover_the_prompt(
    lengths: list[int], system: int, share: float, seed: int
) -> None:
    at = np.linspace(0.0, 9.0, len(lengths))
    ids = share_prefixes(lengths, at, PrefixModel(system, share, 8, pause_s=3.0), seed)
    assert [len(x) for x in ids] == [block_count(n) for n in lengths]
    for row in ids:
        assert len(set(row)) == len(row)
    # a block id always stands behind the same ids, so it always means the same text
    parents = {x: row[:i] for row in ids for i, x in enumerate(row)}
    assert all(parents[x] == row[:i] for row in ids for i, x in enumerate(row))


def test_mooncake_prefix_hits_are_as_published() -> None:
    spec = read_entry("mooncake-synth")
    assert isinstance(spec, Synthetic)
    ratios = [prefix_hit_ratio(synthetic_rows(spec, 12_031, seed)) for seed in range(3)]
    assert sum(ratios) / 3 == pytest.approx(0.366, abs=0.01)


def test_tools_and_agents_are_as_published() -> None:
    spec = read_entry("toolagent-synth")
    assert isinstance(spec, Synthetic)
    rows = [row for seed in range(3) for row in synthetic_rows(spec, 23_608, seed)]
    assert np.mean([row.prompt_tokens for row in rows]) == pytest.approx(8596, rel=0.01)
    assert np.mean([row.output_tokens for row in rows]) == pytest.approx(182, rel=0.01)
    ratios = [prefix_hit_ratio(synthetic_rows(spec, 23_608, seed)) for seed in range(3)]
    assert sum(ratios) / 3 == pytest.approx(0.59, abs=0.015)


def test_code_comes_in_bursts_as_published() -> None:
    spec = read_entry("azure-code-synth")
    assert isinstance(spec, Synthetic)
    gaps = np.diff(spec.arrival_times(seed=0, n=400_000))
    assert gaps.std() / gaps.mean() == pytest.approx(13.15, rel=0.1)
    assert 1.0 / gaps.mean() == pytest.approx(2.57, rel=0.1)


def test_a_day_of_requests_is_a_day() -> None:
    spec = read_entry("azure-day")
    assert isinstance(spec, Synthetic)
    for seed in range(3):
        times = spec.arrival_times(seed, spec.requests)
        assert times[-1] == pytest.approx(7200.0, rel=0.1)
        low, high = (((times >= a) & (times < a + 720)).sum() for a in (0.0, 3240.0))
        assert 5.0 < high / low < 9.0  # tenths of a day: the swing is 1 to 8 at its very ends


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"speed": 1}, "unknown key speed"),
        ({"requests": 0}, "requests must be >= 1"),
        ({"requests": "many"}, "not supported"),
        ({"arrivals": {"process": "x"}}, "unknown arrival process 'x'"),
        ({"arrivals": {"process": "poisson"}}, "takes rate_rps; got none"),
        ({"arrivals": 4}, "arrivals must be a table"),
        ({"prompt_tokens": {"p": [0.0, 1.0]}}, "tokens"),
        ({"prompt_tokens": {"p": [0, 1], "tokens": [1, 2], "max": 3}}, "max"),
        ({"output_tokens": 5}, "must be a mapping"),
        ({"prefix": {"system_blocks": 1, "continue_share": 2, "window": 1}}, "continue_share"),
        (
            {"prefix": {"system_blocks": 1, "continue_share": 1, "window": 1, "pause_s": -1.0}},
            "pause_s",
        ),
        ({"tenants": {"a": 0.0}}, "weights"),
        ({"rank_grid": [[1, 2]]}, "square"),
    ],
)
def test_a_mistake_in_a_table_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WorkloadError, match=reason):
        from_table(table(**changes))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(WorkloadError, match="output_tokens"):
        from_table({k: v for k, v in table().items() if k != "output_tokens"})
