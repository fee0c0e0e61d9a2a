"""GuideLLM's report and AIPerf's export, as a log: with the fields that their own runs wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.fidelity.logs import read_log
from workloads.errors import WorkloadError
from workloads.traces.trace import read_trace

_SENT_S = 1_795_968_500.25
# sent after the first request, TTFT, end to end (s), prompt, answer (tokens)
_ROWS = ((0.0, 0.5, 2.5, 200, 21), (1.5, 0.25, 0.25, 80, 1))


def guidellm() -> dict[str, Any]:
    """Two benchmarks, one after the other; a list of failures in one, a number in the other."""
    requests = [
        {
            "info": {
                "timings": {
                    "request_start": _SENT_S + at_s,
                    "first_token_iteration": _SENT_S + at_s + ttft_s,
                    "last_token_iteration": _SENT_S + at_s + e2e_s,
                }
            },
            "prompt_tokens": prompt,
            "output_tokens": output,
        }
        for at_s, ttft_s, e2e_s, prompt, output in _ROWS
    ]
    first = {"successful": requests[:1], "errored": [{}, {}], "incomplete": []}
    second = {"successful": requests[1:], "errored": 1, "incomplete": None}
    return {"metadata": {}, "benchmarks": [{"requests": first}, {"requests": second}]}


def aiperf() -> list[dict[str, Any]]:
    """A warm-up, two that were served and one that was refused; counts are floats there."""

    def line(at_s: float, kind: str = "profiling") -> dict[str, Any]:
        start_ns = int((_SENT_S + at_s) * 1e9)
        return {"metadata": {"request_start_ns": start_ns, "phase_kind": kind}, "metrics": {}}

    lines = [line(-9.0, "warmup")]
    for at_s, ttft_s, e2e_s, prompt, output in _ROWS:
        told = {
            "time_to_first_token": ttft_s * 1e3,
            "request_latency": e2e_s * 1e3,
            "input_sequence_length": prompt + 1,
            "usage_prompt_tokens": float(prompt),
            "output_sequence_length": output,
        }
        metrics = {name: {"value": value, "unit": "-"} for name, value in told.items()}
        lines.append(line(at_s) | {"metrics": metrics})
    return [*lines, line(3.0) | {"error": {"code": 429, "type": "Too Many Requests"}}]


def as_lines(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def read(tmp_path: Path, text: str) -> EngineLog:
    (tmp_path / "log").write_text(text)
    return read_log(tmp_path / "log")


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        (json.dumps(guidellm()), 3),
        (json.dumps(guidellm(), indent=1), 3),
        (as_lines(aiperf()), 1),
    ],
    ids=["guidellm", "guidellm-indented", "aiperf"],
)
def test_what_was_served_is_read(tmp_path: Path, text: str, dropped: int) -> None:
    log = read(tmp_path, text)
    assert log.dropped == dropped
    for record, (at_s, ttft_s, e2e_s, prompt, output) in zip(log.real, _ROWS, strict=True):
        assert (record.prompt_tokens, record.output_tokens) == (prompt, output)
        assert record.send_s == pytest.approx(at_s, abs=1e-6)
        assert record.ttft_s == pytest.approx(ttft_s, abs=1e-6)
        assert record.e2e_s == pytest.approx(e2e_s, abs=1e-6)


def _timings(report: dict[str, Any]) -> dict[str, Any]:
    return dict[str, Any](report["benchmarks"][1]["requests"]["successful"][0])["info"]["timings"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda r: _timings(r).update(request_start=None),
            "request_start must be a time, got ",
        ),
        (lambda r: _timings(r).update(first_token_iteration=1.0), "not in this order"),
        (lambda r: _timings(r).pop("last_token_iteration"), "last_token_iteration"),
        (lambda r: r["benchmarks"][1].pop("requests"), "requests"),
        (lambda r: r["benchmarks"].clear(), r"holds no requests \(0 failed"),
    ],
)
def test_a_report_that_is_wrong_is_told(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], said: str
) -> None:
    report = guidellm()
    spoil(report)
    with pytest.raises(WorkloadError, match=said):
        read(tmp_path, json.dumps(report))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: r["metrics"].pop("time_to_first_token"), "line 2"),
        (lambda r: r["metrics"].update(request_latency={"value": 1.0}), "not in this order"),
        (lambda r: r["metrics"].update(usage_prompt_tokens={"value": 0.5}), "prompt: tokens"),
        (lambda r: r["metrics"].update(usage_prompt_tokens={"value": "9"}), "prompt: tokens"),
        (lambda r: r["metadata"].update(request_start_ns="x"), "line 2"),
        (lambda r: r["metadata"].update(request_start_ns=10**400), "line 2"),
    ],
)
def test_a_line_that_is_wrong_is_told(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], said: str
) -> None:
    lines = aiperf()
    spoil(lines[1])
    with pytest.raises(WorkloadError, match=said):
        read(tmp_path, as_lines(lines))


@pytest.mark.parametrize("text", [json.dumps(guidellm()), as_lines(aiperf())])
def test_what_a_tool_sent_can_be_sent_again(tmp_path: Path, text: str) -> None:
    source, out = tmp_path / "result", tmp_path / "trace.jsonl"
    source.write_text(text)
    done = CliRunner().invoke(app, ["convert", str(source), str(out)])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, str(out))
    rows = [(row.prompt_tokens, row.output_tokens) for row in read_trace(out)]
    assert rows == [(prompt, output) for *_, prompt, output in _ROWS]
    assert read_trace(out)[1].arrival_s == pytest.approx(_ROWS[1][0], abs=1e-6)
