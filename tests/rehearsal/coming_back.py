"""Of clients that come back when they are told to, how many are served? A steady overload."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

from tests.engine_server import EngineServer
from tests.rehearsal.scene import Seen, metric_lines
from workloads.replay.request_body import PreparedRequest, RequestStyle, prepare
from workloads.replay.run import replay_to_file
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome, RequestRecord

OVERLOAD = 1.5  # of what it was seen to do
PROMPT = 100  # tokens
AT_ONCE, FIRST = 16, 48  # requests that say what it can do
TTFT_IN_ANSWERS = 2.0  # the TTFT SLO, in the time that one answer takes among others
_VOCABULARY = range(10, 200)


def coming_back(server: EngineServer, load_s: float, answer: int) -> Seen:
    """Under `scorpio`, with a profile that was just measured. load_s: how long clients come.
    answer: tokens of each."""
    was = str(server.status()["policy"])
    server.switch("scorpio")
    rate_rps, slo_s = _able(server, answer)
    sent = _requests(server.model, OVERLOAD * rate_rps, slo_s, load_s, answer)
    path = server.run_dir.parent / "coming_back.jsonl"
    records = replay_to_file(server.url, sent, path, retries=1)
    server.switch(was)
    seen = Seen(
        "Refused clients that come back when they are told to",
        f"{server.model}, answers of {answer} tokens, {OVERLOAD:g} times what the server can do,"
        f" for {load_s:.0f} s, as `scorpio replay --retries 1` does",
    )
    seen.seen += _lines(records, slo_s)
    seen.seen += metric_lines(server, "scorpio_requests_total", outcome="rejected")[:1]
    return seen


def _able(server: EngineServer, answer: int) -> tuple[float, float]:
    """Requests per second, and a TTFT SLO in seconds, that this machine can keep."""

    def one(number: int) -> float:
        began_s = time.monotonic()
        body: dict[str, Any] = {"model": server.model, "prompt": _prompt(number)}
        body |= {"max_tokens": answer, "ignore_eos": True}
        code, _, raw = server.call("POST", "/v1/completions", body)
        assert code == 200, raw
        return time.monotonic() - began_s

    began_s = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shortest_s = min(pool.map(one, range(FIRST)))
    return FIRST / (time.monotonic() - began_s), TTFT_IN_ANSWERS * shortest_s


def _requests(
    model: str, rate_rps: float, slo_s: float, load_s: float, answer: int
) -> list[PreparedRequest]:
    chance, at_s = Random(7), 0.0
    made: list[PreparedRequest] = []
    style = RequestStyle(model=model)
    while (at_s := at_s + chance.expovariate(rate_rps)) < load_s:
        request = WorkloadRequest(
            index=len(made), send_s=at_s, prompt_tokens=PROMPT, output_tokens=answer, hash_ids=(),
            slo_class="", ttft_slo_s=slo_s, tpot_slo_s=math.inf,
        )  # fmt: skip
        made.append(prepare(request, _prompt(FIRST + len(made)), style))
    return made


def _prompt(number: int) -> list[int]:
    return Random(number).choices(_VOCABULARY, k=PROMPT)


def _lines(records: Sequence[RequestRecord], slo_s: float) -> list[str]:
    back = [r for r in records if r.tries > 1]
    served = [r for r in back if r.outcome is Outcome.FINISHED]
    good = [r for r in served if _again_s(r) <= slo_s]
    refused = sum(r.outcome is Outcome.REJECTED for r in records) + len(served)
    kept = sum(r.tries == 1 and r.good for r in records)
    waits = sorted(r.last_send_s - r.send_s for r in back if r.last_send_s is not None)
    told = f", after {waits[len(waits) // 2]:.1f} s (median)" if waits else ""
    return [
        f"TTFT SLO {slo_s:.1f} s, {len(records)} requests",
        f"kept at the first try: {kept}; refused: {refused}; told a time: {len(back)}{told}",
        f"of those that came back then: {len(served)} served, {len(good)} within the SLO",
    ]


def _again_s(record: RequestRecord) -> Any:
    """TTFT of the second try."""
    assert record.first_token_s is not None
    assert record.last_send_s is not None
    return record.first_token_s - record.last_send_s
