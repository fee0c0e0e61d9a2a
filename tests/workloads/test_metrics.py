"""Known records in, exact numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.workloads.test_records import NO_TOKENS, any_record, record, rejected
from workloads.load import LoadKey
from workloads.results.intervals import mean_interval
from workloads.results.metrics import percentiles, summarise
from workloads.results.records import Outcome, RequestRecord
from workloads.results.run_summary import EngineStats, RunKey, RunSummary

KEY = RunKey(policy="fcfs", engine="twin", gpu="a100", load=LoadKey("t", None, "six", 1.6, 3))


def ten_records() -> list[RequestRecord]:
    """One request per second from 100 s to 109 s: 5 good, one of every other fate."""

    def at(
        index: int, make: Callable[..., RequestRecord] = record, **changes: Any
    ) -> RequestRecord:
        sent = 100.0 + index
        shift: dict[str, Any] = (
            {} if make is rejected else {"first_token_s": sent + 0.4, "last_token_s": sent + 0.9}
        )
        values: dict[str, Any] = {
            "index": index,
            "send_s": sent,
            "scheduled_send_s": sent,
            "ended_s": sent + 1.0,
        }
        return make(**(values | shift | changes))

    return [
        at(0),
        at(1),
        at(2, slo_class="batch", ttft_slo_s=math.inf, tpot_slo_s=math.inf),
        at(3, output_tokens=1, last_token_s=103.4),
        at(4, preemptions=2),
        at(5, ttft_slo_s=0.1),
        at(6, tpot_slo_s=0.01),
        at(7, ttft_slo_s=0.1, tpot_slo_s=0.01),
        at(8, rejected, ended_s=108.002),
        at(9, **(NO_TOKENS | {"outcome": Outcome.FAILED, "error": "HTTP 500"})),
    ]


def test_exact_numbers() -> None:
    engine = EngineStats(steps=50, schedule_us={"p50": 80.0, "p99": 200.0}, wall_s=1.5)
    s = summarise(KEY, ten_records(), engine)
    assert s.key == KEY
    assert (s.sent, s.good, s.attainment) == (10, 5, 0.5)
    assert s.window_s == 9.0
    assert s.offered_rps == pytest.approx(10 / 9)
    assert s.goodput_rps == pytest.approx(5 / 9)  # the window, not the 10 s that it took
    assert s.duration_s == 10.0
    assert s.output_tokens_per_s == pytest.approx((7 * 11 + 1) / 10.0)
    assert (s.admitted, s.admitted_share) == (9, 0.9)
    assert (s.rejected, s.rejected_by_reason) == (1, {"ttft_infeasible": 1})
    assert (s.failed, s.timed_out) == (1, 0)
    assert s.violations == {"ttft": 1, "tpot": 1, "both": 1}
    assert s.single_token == {"sent": 1, "good": 1}
    assert s.ttft_ms["p50"] == pytest.approx(400.0)
    assert s.tpot_ms["p99"] == pytest.approx(50.0)
    assert s.rejection_ms["p50"] == pytest.approx(2.0)
    assert s.preemptions == 2
    assert (s.steps, s.schedule_us, s.wall_s) == (50, {"p50": 80.0, "p99": 200.0}, 1.5)
    assert not s.void


def test_value_counts_each_good_request_by_its_class() -> None:
    records = ten_records()
    assert summarise(KEY, records).value_goodput == pytest.approx(5 / 9)
    dear = [replace(r, value=4.0) if r.index in (0, 5) else r for r in records]  # 5 was late
    s = summarise(KEY, dear)
    assert s.good == 5
    assert (s.goodput_rps, s.value_goodput) == pytest.approx((5 / 9, 8 / 9))
    old = {name: value for name, value in s.to_dict().items() if name != "value_goodput"}
    assert RunSummary.from_dict(old).value_goodput is None


def test_by_class() -> None:
    classes = summarise(KEY, ten_records()).by_class
    assert list(classes) == ["batch", "chat"]
    assert (classes["batch"].sent, classes["batch"].good) == (1, 1)
    assert classes["batch"].ttft_slo_ms is None
    chat = classes["chat"]
    assert (chat.sent, chat.good, chat.rejected, chat.failed) == (9, 4, 1, 1)
    assert chat.ttft_slo_ms is None  # its requests do not share one
    assert chat.ttft_ms["p50"] == pytest.approx(400.0)


def test_percentiles_are_numpys_linear_ones() -> None:
    assert percentiles([1.0, 2.0, 3.0]) == {"p50": 2.0, "p90": pytest.approx(2.8), "p99": 2.98}
    assert percentiles([]) == {"p50": None, "p90": None, "p99": None}


def test_late_client_makes_the_run_void() -> None:
    def run(late_ms: float) -> RunSummary:
        """2 % of the requests leave late, so p99 sees them."""
        sends = [i + (late_ms / 1000 if i % 50 == 0 else 0.0) for i in range(100)]
        records = [
            rejected(index=i, scheduled_send_s=float(i), send_s=sent, ended_s=sent)
            for i, sent in enumerate(sends)
        ]
        return summarise(KEY, records)

    assert not run(9.9).void
    late = run(30.0)
    assert late.void
    assert (
        late.void_reason == "the client was late: p99 30.0 ms behind its own schedule (limit 10 ms)"
    )


def test_one_instant_has_no_rate() -> None:
    s = summarise(KEY, [record(index=0), record(index=1)])
    assert (s.window_s, s.offered_rps, s.goodput_rps) == (0.0, None, None)
    assert s.attainment == 1.0


def test_e2e_violations_are_named_when_asked_for() -> None:
    assert summarise(KEY, [record(e2e_slo_s=0.5)]).violations == {
        "ttft": 0, "tpot": 0, "both": 0, "e2e": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("records", "words"),
    [([], "without requests"), ([record(), record()], "recorded twice")],
)
def test_refuses_what_is_no_run(records: list[RequestRecord], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        summarise(KEY, records)


@given(st.lists(any_record(), min_size=1, max_size=12, unique_by=lambda r: r.index))
def test_every_request_is_counted_once(records: list[RequestRecord]) -> None:
    s = summarise(KEY, records)
    assert s.sent == s.good + sum(s.violations.values()) + s.rejected + s.failed + s.timed_out
    assert s.sent == s.admitted + s.rejected
    assert s.rejected == sum(s.rejected_by_reason.values())
    assert s.sent == sum(entry.sent for entry in s.by_class.values())
    assert s.good == sum(entry.good for entry in s.by_class.values())
    assert RunSummary.from_dict(s.to_dict()) == s


def test_interval_is_scipys_when_requests_are_independent() -> None:
    flags = np.random.default_rng(7).random(400) < 0.8
    ours = mean_interval([flags.astype(float)], block=1, resamples=20_000)
    theirs = stats.bootstrap(
        (flags.astype(float),), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    assert ours.mean == flags.mean()
    assert ours.low == pytest.approx(theirs.low, abs=0.004)
    assert ours.high == pytest.approx(theirs.high, abs=0.004)


def test_bursts_of_misses_make_the_interval_wider() -> None:
    bursts = np.repeat(np.arange(20) % 2, 20).astype(float)  # 20 good, 20 bad, and so on
    independent = mean_interval([bursts], block=1)
    blocks = mean_interval([bursts])
    assert blocks.high - blocks.low > 2.0 * (independent.high - independent.low)


def test_seeds_that_disagree_make_the_interval_wider() -> None:
    calm = [np.full(400, 0.5)] * 3
    apart = [np.full(400, value) for value in (0.3, 0.5, 0.7)]
    assert mean_interval(calm).low == mean_interval(calm).high == 0.5
    assert mean_interval(apart).mean == pytest.approx(0.5)
    assert mean_interval(apart).low < 0.4
    assert mean_interval(apart).runs == 3
    assert mean_interval(apart).values == 1200


@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=30), min_size=1, max_size=4))
def test_interval_lies_within_the_data_and_repeats(runs: list[list[float]]) -> None:
    one = mean_interval(runs, resamples=200)
    assert one == mean_interval(runs, resamples=200)
    everything = [value for run in runs for value in run]
    assert min(everything) - 1e-9 <= one.low <= one.high <= max(everything) + 1e-9


@pytest.mark.parametrize("runs", [[], [[]], [[1.0], []]])
def test_no_interval_without_data(runs: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        mean_interval(runs)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """200 runs of 300 independent requests with a true share of 0.7 (seeded, so exact)."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(200):
        one = mean_interval([(rng.random(300) < 0.7).astype(float)], resamples=500)
        hits += one.low <= 0.7 <= one.high
    assert 0.88 <= hits / 200 <= 0.99
