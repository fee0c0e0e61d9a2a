"""When does a refused client come back, and what is kept of it?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.workloads.golden_runs import measure, ready, request
from tests.workloads.golden_server import GoldenServer, Script
from workloads.results.records import Outcome
from workloads.retries import back_off_s, come_back_s


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "750", "retry-after": "1"}, 0.75),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "-5"}, 0.5),
        ({"retry-after-ms": "nan"}, 0.5),
        ({"retry-after": "Sun, 29 Nov 2026 20:00:00 GMT"}, 0.5),
        ({}, 0.5),
        ({"retry-after": "61"}, None),
        ({"retry-after": "60", "x-should-retry": "true"}, 60.0),
        ({"retry-after": "1", "x-should-retry": " False"}, None),
        ({"x-should-retry": "false"}, None),
    ],
)
def test_what_a_client_takes_from_a_refusal(headers: dict[str, str], seconds: float | None) -> None:
    assert come_back_s(headers, 1, 60.0) == seconds


def test_without_a_word_it_waits_longer_each_time() -> None:
    assert [back_off_s(n) for n in (1, 2, 3, 4, 5, 99)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def refusal(header: tuple[str, str] | None = None, then: Script | None = None) -> Script:
    return Script(header_delay_s=0.125, status=429, reject_header=header, then=then)


def test_it_comes_back_when_it_is_told_and_its_record_has_all_of_it(tmp_path: Path) -> None:
    server = GoldenServer({0: refusal(("retry-after-ms", "700"), Script())})
    (record,) = measure(server, ready([request(0, send_s=3.0)]), tmp_path, retries=1)
    assert (record.outcome, record.http_status, record.tries) == (Outcome.FINISHED, 200, 2)
    assert record.send_s == pytest.approx(3.0)
    assert record.last_send_s == pytest.approx(3.0 + 0.125 + 0.7)
    assert record.ttft_s == pytest.approx(0.125 + 0.7 + 0.1)  # all counts from the first time


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_it_does_not_ask_more_often_than_it_may(tmp_path: Path, retries: int) -> None:
    server = GoldenServer({0: refusal()})
    (record,) = measure(server, ready([request(0)]), tmp_path, retries=retries)
    assert server.tries == {0: retries + 1}
    assert (record.outcome, record.tries) == (Outcome.REJECTED, retries + 1)
    waits = sum(back_off_s(n) for n in range(1, retries + 1))
    assert (record.last_send_s or 0.0) == pytest.approx(waits + 0.125 * retries)


@pytest.mark.parametrize(
    "script",
    [
        refusal(("x-should-retry", "false")),
        refusal(("retry-after", "61")),
        Script(status=500),
        Script(status=400),
        Script(ending="error_event"),
        Script(),
    ],
)
def test_what_is_final_is_not_asked_again(tmp_path: Path, script: Script) -> None:
    server = GoldenServer({0: script})
    (record,) = measure(server, ready([request(0)]), tmp_path, retries=5)
    assert (server.tries, record.tries, record.last_send_s) == ({0: 1}, 1, None)


def test_those_that_wait_to_come_back_delay_no_other(tmp_path: Path) -> None:
    server = GoldenServer({0: refusal(("retry-after", "9"))})
    requests = [request(i, send_s=0.01 * i) for i in range(20)]
    records = measure(server, ready(requests), tmp_path, retries=1)
    assert all(math.isclose(r.lateness_s, 0.0, abs_tol=1e-9) for r in records)
    assert [r.tries for r in records] == [2] + [1] * 19
