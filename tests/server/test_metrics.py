"""Are EngineCore's counters on /metrics, whatever registry vLLM serves?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send

from scorpio import channel
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import FakeEngine, FakeServer, client, refused

STATUS = {
    "policy": "fcfs",
    "policy_version": "0.1.0",
    "fallbacks": 2,
    "by_class": {
        "chat": {
            "outcomes": {"finished": 7, "rejected": 5},
            "rejections": {"ttft_infeasible": 5},
            "violations": {"ttft": 2, "tpot": 1},
            "forecasts": {"ttft": 6, "tpot": 5},
            "forecasts_exceeded": {"ttft": 1},
            "ttft_slack": [0, 0, 0, 1, 1, 0, 0, 0, 2, 0, 0, 3],
        },
        "of another server": {"outcomes": {"finished": 99}},
    },
    "waiting": 3,
    "waiting_prompt_tokens": 900,
    "running": 4,
    "breaker_open": True,
    "stock_steps": 11,
    "planned_steps": 5,
    "filled_steps": 2,
    "monitoring_errors": 3,
    "schedule_us": {"p50": 100.0, "p99": 2000.0},
    "step_error": {"p50": 0.05, "p99": 0.5},
    "forecast_error": {"ttft": {"p50": 0.1, "p99": 0.75}},
    "shadow": {"watching": True, "errors": 2, "requests": {"refused": 4, "same": 9}},
}
VLLM = b"# TYPE vllm:x gauge\nvllm:x 1.0\n"


class MetricsServer(FakeServer):
    """vLLM's /metrics: two body messages, as a stream would have them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/metrics":
            await super().__call__(scope, receive, send)
            return
        self.scopes.append(scope)
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"30")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": VLLM[:9], "more_body": True})
        await send({"type": "http.response.body", "body": VLLM[9:]})

    status = 200


async def scrape(run_dir: Path) -> tuple[dict[tuple[str, ...], float], MetricsServer]:
    classes = {"chat": {"ttft_ms": 500}, "batch": {}}
    server = MetricsServer(FakeEngine(), {"run_dir": str(run_dir), "classes": classes})
    headers = {"accept": "application/openmetrics-text", "accept-encoding": "gzip"}
    reply = await client(server).request("GET", "/metrics", headers=headers)
    assert reply.status == 200
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.body.startswith(VLLM)
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            base = ("model_name", "engine")
            rest = sorted(sample.labels.items(), reverse=True)  # slo_class before outcome, type ...
            extra = [value for name, value in rest if name not in base]
            assert family.name == "vllm:x" or sample.labels["model_name"] == "tiny"
            found[(sample.name, *extra)] = sample.value
    return found, server


async def test_everything_the_engine_reports(tmp_path: Path) -> None:
    channel.write_status(tmp_path, STATUS)
    found, server = await scrape(tmp_path)
    assert found["vllm:x",] == 1.0
    assert found["scorpio_policy_info", "0.1.0", "fcfs"] == 1.0
    rejections, violations = (
        "scorpio_admission_rejections_total",
        "scorpio_request_slo_violation_total",
    )
    assert found[rejections, "chat", "ttft_infeasible"] == 5.0
    assert found[rejections, "none", "queue_full"] == 0.0
    assert found["scorpio_requests_total", "chat", "finished"] == 7.0
    assert found["scorpio_requests_total", "batch", "failed"] == 0.0
    assert (
        found[violations, "ttft", "chat"],
        found[violations, "tpot", "chat"],
        found[violations, "e2e", "chat"],
    ) == (2.0, 1.0, 0.0)
    forecasts = [found["scorpio_forecasts_total", kind, "chat"] for kind in ("ttft", "tpot")]
    exceeded = [found["scorpio_forecasts_exceeded_total", k, "chat"] for k in ("ttft", "tpot")]
    assert (forecasts, exceeded) == ([6.0, 5.0], [1.0, 0.0])
    assert found["scorpio_ttft_forecast_error_ratio", "0.99"] == 0.75
    assert found["scorpio_tpot_forecast_error_ratio", "0.5"] == 0.0
    slack = "scorpio_request_ttft_slack_seconds"
    assert found[f"{slack}_bucket", "chat", "-0.3"] == 1.0
    assert found[f"{slack}_bucket", "chat", "1.0"] == 4.0
    assert found[f"{slack}_bucket", "chat", "+Inf"] == 7.0
    assert found["scorpio_policy_fallback_total",] == 2.0
    assert found["scorpio_filled_steps_total",] == 2.0
    assert found["scorpio_monitoring_errors_total",] == 3.0
    assert found["scorpio_waiting_requests",] == 3.0
    assert found["scorpio_waiting_prompt_tokens",] == 900.0
    assert found["scorpio_running_requests",] == 4.0
    assert found["scorpio_breaker_open",] == 1.0
    assert found["scorpio_steps_total", "stock"] == 11.0
    assert found["scorpio_steps_total", "planned"] == 5.0
    assert found["scorpio_schedule_duration_seconds", "0.5"] == pytest.approx(1e-4)
    assert found["scorpio_schedule_duration_seconds", "0.99"] == pytest.approx(2e-3)
    assert found["scorpio_prediction_error_ratio", "0.5"] == 0.05
    shadow = [
        found["scorpio_shadow_requests_total", verdict]
        for verdict in ("refused", "earlier", "same", "later")
    ]
    assert shadow == [4.0, 0.0, 9.0, 0.0]
    assert found["scorpio_shadow_errors_total",] == 2.0
    assert found["scorpio_shadow_watching",] == 1.0
    # the label set is the operator's, whatever the status file says
    classes = {key[1] for key in found if key[0] == "scorpio_requests_total"}
    assert classes == {"none", "chat", "batch"}
    asked = [name for name, _ in server.scopes[0]["headers"]]
    assert b"accept" not in asked  # else vLLM's half could be compressed or in another format
    assert b"accept-encoding" not in asked


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"schedule_us": 3, "waiting": "x", "policy": 1, "by_class": {"none": 1, "chat": []}},
        {"forecast_error": {"ttft": 1}},
        {"shadow": 3},
        {"shadow": {"requests": 1, "watching": "yes"}},
    ],
)
async def test_a_missing_or_odd_status_is_zeros(tmp_path: Path, status: Any) -> None:
    if status is not None:
        channel.write_status(tmp_path, status)
    found, _ = await scrape(tmp_path)
    assert found["scorpio_waiting_requests",] == 0.0
    assert found["scorpio_schedule_duration_seconds", "0.5"] == 0.0


async def test_an_error_of_vllm_is_passed_on(tmp_path: Path) -> None:
    server = MetricsServer(FakeEngine(), {"run_dir": str(tmp_path)})
    server.status = 500
    reply = await client(server).request("GET", "/metrics")
    assert (reply.status, reply.body) == (500, VLLM)


async def test_what_the_api_process_counts_itself() -> None:
    from scorpio.server.state.metrics import ANSWERED, MALFORMED

    def counts() -> tuple[float, float]:
        malformed = MALFORMED.labels("tiny", "x-slo-ttft-ms")
        answered = ANSWERED.labels("tiny", "429", "ttft_infeasible")
        return malformed._value.get(), answered._value.get()

    before = counts()
    server = FakeServer(FakeEngine([refused(), refused()]))
    user = client(server)
    await user.request("POST", "/v1/completions", b"{}", {"x-slo-ttft-ms": "x"})
    for behave in (fake.answer_chat, fake.stream_chat):
        server.behave = behave
        await client(server).request("POST", "/v1/chat/completions", b"{}")
    assert counts() == (before[0] + 1, before[1] + 2)
