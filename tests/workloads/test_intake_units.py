"""Is every time read in the unit it is in, or is the unit asked for?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workloads.trace_files import AZURE, BURSTGPT, mooncake, refused, saved, times
from workloads.errors import TraceError, WorkloadError
from workloads.traces.intake import read_intake
from workloads.traces.reading import Reading

# --- units of time


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
def test_every_unit_is_read_as_it_is_said(tmp_path: Path, unit: str, factor: int) -> None:
    path = saved(tmp_path, mooncake(factor * t for t in range(0, 60, 2)))
    found = read_intake(path, None, Reading(time_unit=unit))
    assert times(found) == [float(t) for t in range(0, 60, 2)]
    assert f"times are {unit}" in found.lines("t")[0]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ns", 10**9)])
@pytest.mark.parametrize("rows", [None, "15:20"])
def test_a_unit_that_the_rates_speak_against_is_not_guessed(
    tmp_path: Path, unit: str, factor: int, rows: str | None
) -> None:
    """One request a second, read as milliseconds, is a thousand a second; nanoseconds, none."""
    reason = refused(saved(tmp_path, mooncake(factor * t for t in range(30))), rows=rows)
    assert f"--time-unit {unit}" in reason
    assert "(or ms, if it is so)" in reason


def test_milliseconds_that_look_like_it_are_no_question(tmp_path: Path) -> None:
    assert times(read_intake(saved(tmp_path, mooncake(range(0, 60_000, 1000)))))[:2] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("us", 10**6), ("ns", 10**9), ("ms", 10**3)]
)
def test_times_since_1970_tell_their_unit(tmp_path: Path, unit: str, factor: int) -> None:
    path = saved(tmp_path, mooncake(factor * (1_700_000_000 + t) for t in (0, 7)))
    if unit != "ms":
        assert f"--time-unit {unit}" in refused(path)
    assert times(read_intake(path, None, Reading(time_unit=unit))) == [0.0, 7.0]


def test_a_csv_in_milliseconds_since_1970_is_not_taken_for_seconds(tmp_path: Path) -> None:
    rows = "".join(f"{1_700_000_000_000 + 500 * i},m,9,9,18,x\n" for i in range(4))
    path = saved(tmp_path, f"{BURSTGPT}\n{rows}")
    assert "--time-unit ms" in refused(path)
    assert times(read_intake(path, None, Reading(time_unit="ms"))) == [0.0, 0.5, 1.0, 1.5]


def test_numbers_where_dates_belong_need_a_unit(tmp_path: Path) -> None:
    path = saved(tmp_path, f"{AZURE}\n100,5,6\n2600,7,8\n")
    assert "say --time-unit s, ms, us or ns" in refused(path)
    assert times(read_intake(path, None, Reading(time_unit="ms"))) == [0.0, 2.5]


def test_dates_are_dates_in_every_kind(tmp_path: Path) -> None:
    path = saved(tmp_path, mooncake(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01.250+00:00"]))  # type: ignore[list-item]
    assert times(read_intake(path)) == [0.0, 1.25]
    with pytest.raises(WorkloadError, match="are dates"):
        read_intake(path, None, Reading(time_unit="s"))


@pytest.mark.parametrize(
    "stamp", ["2024-13-01 00:00:00", "0001-01-01 00:00:00", "1969-12-31 23:59:59", "2024-01-01"]
)
def test_a_date_that_is_none(tmp_path: Path, stamp: str) -> None:
    path = saved(tmp_path, f"{AZURE}\n{stamp},5,6\n")
    with pytest.raises(TraceError, match="line 2: TIMESTAMP"):
        read_intake(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time_unit": "min"}, "--time-unit must be one of s, ms, us, ns"),
        ({"block_tokens": 0}, "--block-tokens must be"),
        ({"spread_tick_s": -1.0}, "--spread-tick-s"),
        ({"spread_tick_s": float("nan")}, "--spread-tick-s"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WorkloadError, match=reason):
        Reading(**changes)


# --- blocks
