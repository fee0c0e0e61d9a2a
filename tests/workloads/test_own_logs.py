"""Is a log of one's own read as it is meant? Its columns, classes, order, and what is not used."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from workloads.errors import TraceError, WorkloadError
from workloads.named import default_mix, load_workload
from workloads.traces.intake import read_intake
from workloads.traces.reading import Reading, parse_columns

CSV = """\
arrival_s,prompt_tokens,output_tokens,slo_class,slo_ttft_ms,slo_tpot_ms,slo_e2el_ms,class,tenant
0,100,10,chat,500,50,,x,acme
2,200,20,,,,60000,y,
1,300,30,chat,,,,z,acme
3,,5,chat,500,50,,x,acme
"""
CLASSES = """\
default_class = "standard"
least_ttft_ms = 100

[classes.chat]
ttft_ms = 800
tpot_ms = 60
value = 4

[classes.standard]
target = 0.99
ttft_ms = 3000
on_miss = "degrade"
"""


def saved(tmp_path: Path, text: str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_what_a_csv_says_of_its_slos(tmp_path: Path) -> None:
    found = read_intake(saved(tmp_path, CSV))
    assert [dict(row.xargs) for row in found.rows] == [
        {"slo_class": "chat", "slo_ttft_ms": 500.0, "slo_tpot_ms": 50.0},
        {"slo_class": "chat"},
        {"slo_e2el_ms": 60000.0},
    ]
    assert [row.prompt_tokens for row in found.rows] == [100, 300, 200]
    lines = found.lines("log.csv")
    assert "3 used, 1 failed dropped" in lines[0]
    assert lines[1:] == [
        "log.csv: 1 rows were out of order and have been sorted by time",
        "log.csv: columns not used: class",
    ]


def test_slos_of_json_lines_may_stand_beside_the_lengths(tmp_path: Path) -> None:
    text = (
        '{"timestamp": 0, "input_length": 5, "output_length": 6, "slo_class": "chat",'
        ' "slo_ttft_ms": 500, "model": "m"}\n'
        '{"timestamp": 900, "input_length": 5, "output_length": null}\n'
        '{"timestamp": 1000, "input_length": 5, "output_length": 6, "slo_ttft_ms": null}\n'
    )
    found = read_intake(saved(tmp_path, text, "log.jsonl"))
    assert [dict(row.xargs) for row in found.rows] == [
        {"slo_class": "chat", "slo_ttft_ms": 500.0}, {},
    ]  # fmt: skip
    assert (found.dropped, found.unused) == (1, ("model",))


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("slo_ttft_ms", "0", "slo_ttft_ms: must be > 0"),
        ("slo_tpot_ms", "fast", "slo_tpot_ms: must be a number of milliseconds"),
    ],
)
def test_a_bad_slo_is_named(tmp_path: Path, header: str, row: str, reason: str) -> None:
    text = f"arrival_s,prompt_tokens,output_tokens,{header}\n0,5,6,{row}\n"
    with pytest.raises(TraceError, match=f"line 2: {reason}"):
        read_intake(saved(tmp_path, text))


# -- --map ----------------------------------------------------------------------------------------


def test_columns_of_any_name(tmp_path: Path) -> None:
    text = (
        "when,toks_in,toks_out,who,budget\n"
        "2026-11-01T10:00:00+01:00,5,6,acme,500\n2026-11-01T09:00:02Z,7,8,,\n"
    )
    columns = parse_columns("arrival=when,prompt=toks_in,output=toks_out,tenant=who,ttft_ms=budget")
    found = read_intake(saved(tmp_path, text), None, Reading(columns=columns))
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens, r.tenant) for r in found.rows] == [
        (0.0, 5, 6, "acme"), (2.0, 7, 8, ""),
    ]  # fmt: skip
    assert dict(found.rows[0].xargs) == {"slo_ttft_ms": 500.0}
    assert (found.kind, found.unused) == ("mapped", ())


def test_a_mapped_time_says_its_unit_by_its_name_or_is_asked_for(tmp_path: Path) -> None:
    def times(name: str, reading: str | None = None) -> list[float]:
        text = f"{name},prompt_tokens,output_tokens\n1000,5,6\n3500,5,6\n"
        columns = parse_columns(f"arrival={name}")
        found = read_intake(saved(tmp_path, text), None, Reading(reading, columns=columns))
        return [row.arrival_s for row in found.rows]

    assert times("t_ms") == [0.0, 2.5]
    assert times("t", "us") == pytest.approx([0.0, 0.0025])
    with pytest.raises(TraceError, match="a number without a unit; say --time-unit"):
        times("t")


def test_keys_of_json_lines_of_any_name(tmp_path: Path) -> None:
    path = saved(tmp_path, '{"ts": 0, "in": 5, "out": 6}\n{"ts": 500, "in": 5}\n', "log.jsonl")
    columns = parse_columns("arrival=ts,prompt=in,output=out")
    with pytest.raises(TraceError, match="line 2: out: missing"):
        read_intake(path, None, Reading(columns=columns))
    path.write_text('{"ts": 0, "in": 5, "out": 6}\n{"ts": 500, "in": 7, "out": 6}\n')
    found = read_intake(path, None, Reading(columns=columns))
    assert [(row.arrival_s, row.prompt_tokens) for row in found.rows] == [(0.0, 5), (0.5, 7)]


@pytest.mark.parametrize(
    "text", ["prompt", "prompt=", "x=y", "prompt=a,prompt=b", "prompt=a,output=a"]
)
def test_a_wrong_map_is_named(text: str) -> None:
    with pytest.raises(WorkloadError, match="--map: "):
        parse_columns(text)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    columns = parse_columns("arrival=when")
    with pytest.raises(TraceError, match="column 'when' is missing"):
        read_intake(saved(tmp_path, CSV), None, Reading(columns=columns))


def test_rows_out_of_order_are_not_spread(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="sort it by time first"):
        read_intake(saved(tmp_path, CSV), None, Reading(spread_tick_s=1.0))


# -- which SLOs ------------------------------------------------------------------------------------


def test_an_operators_file_is_a_mix(tmp_path: Path) -> None:
    classes = saved(tmp_path, CLASSES, "slo.toml")
    requests = load_workload(str(saved(tmp_path, CSV)), mix=str(classes))
    assert [(r.slo_class, r.ttft_slo_s, r.tpot_slo_s, r.e2e_slo_s, r.value) for r in requests] == [
        ("chat", 0.5, 0.05, math.inf, 4.0),
        ("chat", 0.8, 0.06, math.inf, 4.0),
        ("standard", 3.0, math.inf, 60.0, 1.0),
    ]


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ("", r"has no \[classes.NAME\]"),
        ("[classes.x]\nttft_ms = 0\n", "classes.x.ttft_ms: must be > 0"),
        ("[classes.x]\nttft = 5\n", "classes.x: unknown field 'ttft'; valid: ttft_ms"),
        ("[classes.x]\nvalue = 0\n", "classes.x.value: must be a number > 0"),
        ('default_class = "y"\n[classes.x]\n', "default_class: 'y' is not a class; valid: x"),
        ("[classes.other]\nttft_ms = 5\n", "row 0 of the trace: slo_class: unknown class"),
        ("[classes", "not TOML"),
    ],
)
def test_a_wrong_file_of_classes_is_named(tmp_path: Path, classes: str, reason: str) -> None:
    path = saved(tmp_path, classes, "slo.toml")
    with pytest.raises(WorkloadError, match=reason):
        load_workload(str(saved(tmp_path, CSV)), mix=str(path))


def test_classes_that_no_row_names_promise_nothing(tmp_path: Path) -> None:
    log = saved(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,5,6\n")
    classes = saved(tmp_path, "[classes.chat]\nttft_ms = 5\n", "slo.toml")
    with pytest.raises(WorkloadError, match="no row of the trace names a class"):
        load_workload(str(log), mix=str(classes))


def test_a_log_has_no_default_mix(tmp_path: Path) -> None:
    assert default_mix("azure-conv-synth") == "six"
    assert default_mix(str(saved(tmp_path, CSV))) is None
    with pytest.raises(WorkloadError, match="names class 'chat' without values"):
        load_workload(str(saved(tmp_path, CSV)), mix="trace")
