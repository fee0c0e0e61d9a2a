"""Which parsers read what others wrote, and how may each end? With a result or its one error.

A target names the modules whose branches guide the fuzzer, and words that a mutation may put in
(valid inputs are in seeds.py). `load` imports late, so that the imports can be instrumented.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.model_files import latency_run, length_run, steps_run
from tests.fuzz.target import Run, Target, must_say, on_file

SLO_WORDS = (
    *("slo_ttft_ms", "slo_tpot_ms", "slo_e2el_ms", "slo_class", "slo_on_miss", "slo_tenant"),
    *("predicted_output_tokens", "predicted_output_quantiles", "vllm_xargs", "service_tier"),
    *("x-slo-ttft-ms", "x-llm-d-slo-tpot-ms", "x-slo-e2el-ms", "x-scorpio-on-miss"),
    *("x-llm-d-inference-objective", "x-llm-d-inference-fairness-id", "interactive", "wait"),
)
JSON_WORDS = ("null", "true", "NaN", "1e999", "-0", "{}", "[]", "\\ud800", '":', '","', "1" * 400)


def _slo() -> Run:
    from scorpio.core.slo import (
        Slo,
        SloBook,
        SloClass,
        SloError,
        parse_length_quantiles,
        parse_predicted_tokens,
    )

    book = SloBook({"interactive": SloClass("interactive", Slo(0.5))})

    def run(data: bytes) -> None:
        try:
            xargs = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(xargs, dict):
            return
        parsers: tuple[Callable[[], Any], ...] = (
            lambda: book.resolve(xargs)[0],
            lambda: parse_predicted_tokens(xargs),
            lambda: parse_length_quantiles(xargs),
        )
        for parse in parsers:
            try:
                parse()
            except SloError as error:
                must_say(error)

    return run


def _request() -> Run:
    """The body and headers of a request: `header: value` lines, an empty line, the body."""
    from scorpio.core.slo import NO_SLO, Slo, SloBook, SloClass, SloError
    from scorpio.server.request.endpoints import ENDPOINTS
    from scorpio.server.request.request_body import fold
    from scorpio.server.request.slo_headers import SloRules, first_headers

    classes = {"interactive": SloClass("interactive", Slo(0.5))}
    tiers = {"priority": "interactive"}
    rules = [SloRules(SloBook(classes, d), tiers) for d in (NO_SLO, Slo(2.0))]
    routes = sorted(ENDPOINTS)

    def run(data: bytes) -> None:
        head, _, body = data.partition(b"\n\n")
        raw = [line.partition(b":")[::2] for line in head.split(b"\n")]
        headers = first_headers([*raw, (b"content-type", b"application/json")])
        for rule, account in zip(rules, ("", "key-1"), strict=True):
            endpoint = ENDPOINTS[routes[len(body) % len(routes)]]
            try:
                folded = fold(body, headers, endpoint, rule, account)
            except SloError as error:
                must_say(error)
                continue
            if folded.body is not None:
                json.loads(folded.body)
                folded.body.decode()

    return run


def _notice() -> Run:
    from scorpio.core.wire import decode_rejection

    def run(data: bytes) -> None:
        decode_rejection(data.decode(errors="replace"))

    return run


def _control() -> Run:
    """control.json as EngineCore reads it, up to the policy that it names."""
    from scorpio import channel
    from scorpio.core.latency import UNMEASURED
    from scorpio.core.registry import PolicyInputs, make_policy
    from scorpio.core.snapshot import EngineLimits

    directory = Path(tempfile.mkdtemp(prefix="scorpio-fuzz-"))
    limits = EngineLimits(8, 128, 1664, 128, 512)

    def run(data: bytes) -> None:
        for name in (channel.CONTROL, channel.STATUS):
            (directory / name).write_bytes(data)
        channel.read_status(directory)
        control = channel.read_control(directory)
        if control is None:
            return
        try:
            make_policy(control.policy, PolicyInputs(UNMEASURED, limits, dict(control.options)))
        except (ValueError, TypeError) as error:  # PolicySwitch.poll shows both in the status
            must_say(error)

    return run


def _admin() -> Run:
    """PUT /scorpio/policy: an answer below 500, whatever the body."""
    from types import SimpleNamespace

    from scorpio.server.state import admin
    from scorpio.settings import ScorpioSettings

    directory = tempfile.mkdtemp(prefix="scorpio-fuzz-")
    server: Any = SimpleNamespace(settings=ScorpioSettings(run_dir=directory))

    def run(data: bytes) -> None:
        answer = admin.set_policy(server, data)
        assert answer.status < 500
        answer.body.decode()

    return run


def _slo_file() -> Run:
    from scorpio.server.accounts.slo_config import read_slo_config
    from scorpio.settings import SettingsError

    return on_file(read_slo_config, (SettingsError,), "slo.toml")


def _trace() -> Run:
    from workloads.errors import WorkloadError
    from workloads.traces.trace import read_trace

    return on_file(read_trace, (WorkloadError,), "trace")


def _sharegpt() -> Run:
    from workloads.errors import WorkloadError
    from workloads.traces.sharegpt import conversations

    return on_file(lambda path: list(conversations(path)), (WorkloadError,), "sharegpt.json")


def _sse() -> Run:
    """However a stream is cut, the same events; whatever they hold, a verdict."""
    from workloads.replay.sse import SseSplitter
    from workloads.replay.token_stream import TokenStream

    def run(data: bytes) -> None:
        whole, cut, stream = SseSplitter(), SseSplitter(), TokenStream()
        events = [*whole.feed(data), *whole.close()]
        parts = [data[i : i + 3] for i in range(0, len(data), 3)]
        assert [*(e for part in parts for e in cut.feed(part)), *cut.close()] == events
        for event, content in events:
            stream.feed(1.0, event, content)
        stream.verdict()
        assert len(stream.token_times_s) < 10**6
        assert stream.output_tokens >= 0

    return run


def _records() -> Run:
    from workloads.errors import WorkloadError
    from workloads.results.record_files import read_records

    return on_file(read_records, (WorkloadError,), "records.jsonl")


def _client_log() -> Run:
    """Results of other people's load tools: calibrate, fidelity and convert read them."""
    from scorpio.twin.fidelity.logs import read_log
    from workloads.errors import WorkloadError

    return on_file(read_log, (WorkloadError,), "log")


TARGETS: dict[str, Target] = {
    "slo": Target(("scorpio.core.slo",), _slo, (*SLO_WORDS, *JSON_WORDS)),
    "request": Target(("scorpio.core.slo", "scorpio.server"), _request, (*SLO_WORDS, *JSON_WORDS)),
    "notice": Target(("scorpio.core.wire",), _notice, ("kv_infeasible", "over_quota", "&&")),
    "control": Target(
        ("scorpio.channel", "scorpio.core"), _control, ("scorpio-paper", "fcfs", *JSON_WORDS)
    ),
    "admin": Target(("scorpio.server.state.admin", "scorpio.channel"), _admin, JSON_WORDS),
    "slo-file": Target(
        ("scorpio.server.accounts.slo_config", "scorpio.settings"),
        _slo_file,
        ("rejection_status", "tpot_ms", "e2el_ms", "inf", "nan", "[[", "]]", '"""'),
    ),
    "trace": Target(
        ("workloads",),
        _trace,
        ("hash_ids", "tenant", "slo_ttft_ms", "vllm_xargs", "\ufeff", *JSON_WORDS),
    ),
    "client-log": Target(
        ("scorpio.twin.fidelity", "workloads"),
        _client_log,
        ("ttfts", "itls", "latencies", "errors", "benchmarks", "request_start_ns", *JSON_WORDS),
    ),
    "sharegpt": Target(("workloads.traces.sharegpt",), _sharegpt, JSON_WORDS),
    "sse": Target(
        ("workloads.replay.sse", "workloads.replay.token_stream"),
        _sse,
        ("stop_reason", "completion_tokens", "token_ids", "logprobs", '"error":', *JSON_WORDS),
    ),
    "latency": Target(
        ("predictors.latency.artifact", "scorpio.core.latency"),
        latency_run,
        ("profile", "step", "prefill", "decode", *JSON_WORDS),
    ),
    "length": Target(("predictors.length",), length_run),
    "steps": Target(("predictors.latency.samples",), steps_run, JSON_WORDS),
    "records": Target(
        ("workloads.results.record_files", "workloads.results.records"), _records, JSON_WORDS
    ),
}
