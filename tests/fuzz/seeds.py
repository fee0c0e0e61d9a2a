"""What does a valid input of each parser look like? The fuzzer starts from these."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

BODY = b'{"model":"m","prompt":"hello","max_tokens":4,"vllm_xargs":{"slo_tpot_ms":50},"user":"u"}'
CHAT = b'{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"n":2}'
PLAIN: dict[str, Sequence[bytes]] = {
    "slo": [
        b'{"slo_ttft_ms":500,"slo_class":"interactive"}',
        b'{"slo_on_miss":"wait","slo_tpot_ms":"50"}',
        b'{"predicted_output_tokens":12,"predicted_output_quantiles":[1,2,3]}',
    ],
    "request": [
        b"x-slo-ttft-ms: 500\n\n" + BODY,
        b"x-llm-d-inference-objective: interactive\nx-scorpio-on-miss: wait\n\n" + CHAT,
        b"x-llm-d-inference-fairness-id: a\n\n" + CHAT,
    ],
    "notice": [b"scorpio:ttft_infeasible?retry_after_ms=12&attainable_ttft_ms=300"],
    "control": [
        b'{"policy":"scorpio","options":{"tenant_share":1.25},"record_steps":false,"seq":3}',
        b'{"policy":"scorpio-paper","options":{},"record_steps":true,"seq":1}',
    ],
    "admin": [b'{"policy":"scorpio","options":{"patience_s":3}}', b'{"policy":"fcfs"}'],
    "slo-file": [
        b'default_class = "a"\nleast_tpot_ms = 30\n[classes.a]\nttft_ms = 500\nvalue = 4\n'
        b'on_miss = "wait"\n[service_tiers]\npriority = "a"\n'
    ],
    "trace": [
        b'{"timestamp":0,"input_length":9,"output_length":3,"hash_ids":[1]}\n'
        b'{"timestamp":1500,"input_length":8,"output_length":2,"extra":{"vllm_xargs":{}}}\n',
        b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
        b"2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n",
        b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        b"5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,API log\n",
    ],
    "client-log": [
        b'{"start_times":[5.0,6.5],"ttfts":[0.5,0.0],"itls":[[0.1,0.1],[]],"input_lens":[9,7],'
        b'"output_lens":[3,0],"errors":["","Too Many Requests"],"mean_ttft_ms":500}',
        b'{"benchmarks":[{"requests":{"errored":2,"incomplete":[],"successful":[{"prompt_tokens":9,'
        b'"output_tokens":3,"info":{"timings":{"request_start":5.0,"first_token_iteration":5.5,'
        b'"last_token_iteration":6.0}}}]}}]}',
        b'{"metadata":{"request_start_ns":5000000000,"phase_kind":"profiling"},"metrics":{'
        b'"time_to_first_token":{"value":500},"request_latency":{"value":900},'
        b'"input_sequence_length":{"value":9},"usage_completion_tokens":{"value":3.0}}}\n',
    ],
    "sharegpt": [
        b'[{"id":"a","conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"yo"}]}]'
    ],
    "sse": [
        b'data: {"choices":[{"text":"a","finish_reason":null}],"usage":{"completion_tokens":1}}\n\n'
        b'event: x\r\ndata: {"choices":[{"text":"b","finish_reason":"stop"}]}\r\n\r\n'
        b"data: [DONE]\n\n",
        b'data: {"choices":[{"delta":{"content":"a"},"token_ids":[1,2]}]}\n\n',
        b'data: {"error":{"message":"m","code":429}}\n\n',
    ],
    "length": [bytes([0, 9, 0, 1]), bytes([1, 200, 3, 255, 2, 80, 0, 7])],
    "steps": [
        b'{"decode_requests":2,"decode_context_tokens":300,"prefill_tokens":8,"prefill_requests":1,'
        b'"duration_s":0.02,"at_s":1.5}\n'
    ],
}


def seeds(name: str) -> Sequence[bytes]:
    """Valid inputs of a parser."""
    if name == "latency":
        return [_latency()]
    if name == "records":
        return [_record()]
    return PLAIN[name]


def _latency() -> bytes:
    from tests.engine_server import write_inputs

    with tempfile.TemporaryDirectory() as directory:
        return write_inputs(Path(directory))[1].read_bytes()


def _record() -> bytes:
    from workloads.results.record_files import record_to_dict
    from workloads.results.records import Outcome, RequestRecord

    record = RequestRecord(
        index=0, slo_class="a", send_s=0.0, scheduled_send_s=0.0, prompt_tokens=5, output_tokens=2,
        outcome=Outcome.FINISHED, first_token_s=0.1, last_token_s=0.2, ended_s=0.3,
    )  # fmt: skip
    return json.dumps(record_to_dict(record)).encode() + b"\n"
