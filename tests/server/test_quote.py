"""What does a client hear that asks what it could have, and when is a quote taken?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.core.latency import StepModel
from scorpio.core.routing.load import Replica, ReplicaLoad
from scorpio.core.slo import XARG_QUOTED, Slo
from scorpio.server.quote.desk import VALID_S, QuoteDesk
from scorpio.server.quote.route import QUOTE_PATH
from tests.engine_server import PROFILE
from tests.server.fake_vllm import NEVER, refused, tokens
from tests.server.keyed import ACME, BETA, CLASSES, Keyed, bearer, slo_file
from tests.server.posting import CHAT, PATH

STEP = StepModel(0.01, 1e-3, 1e-3, 1.0, 0.0, 0.0, 0.0)
ENGINE = Replica(STEP, 1000, 8, 10_000).to_dict()


def publish(run_dir: Path, **more: Any) -> None:
    load = ReplicaLoad(time.time(), **more).to_dict()
    channel.write_status(run_dir, {"policy": "scorpio", "replica": ENGINE, "load": load})


def quoting(folder: Path, text: str | None = None, **config: Any) -> Keyed:
    config = {"latency": PROFILE.to_dict(), "policy": "scorpio"} | config
    keyed = Keyed(folder, slo_file() if text is None else text, config=config)
    publish(keyed.run_dir)
    return keyed


async def test_a_quote_and_a_request_that_takes_it(tmp_path: Path) -> None:
    keyed = quoting(tmp_path)
    reply = await keyed.call("POST", QUOTE_PATH, {"prompt_tokens": 100}, bearer(ACME))
    assert reply.status == 200
    told = reply.json()
    assert told["prompt_tokens"] == 100
    assert (
        told["ttft_ms"]["low"]
        < 112
        < told["ttft_ms"]["high"]
        == int(told["headers"]["x-slo-ttft-ms"])
    )
    assert (told["tpot_ms"]["low"], told["learned_from"]) == (11, 0)
    assert keyed.server.bodies == []  # nothing was served
    await keyed.chat(ACME, headers=told["headers"])
    assert keyed.told[XARG_QUOTED] == "1"
    assert keyed.context.quotes.state()["given"] == 1
    await keyed.chat(ACME, headers=told["headers"])
    assert XARG_QUOTED not in keyed.told  # it is taken once


async def test_what_is_no_quote_of_its_own_is_none(tmp_path: Path) -> None:
    keyed = quoting(tmp_path)
    reply = await keyed.call("POST", QUOTE_PATH, {"prompt_tokens": 100}, bearer(ACME))
    headers = reply.json()["headers"]
    tighter = {"x-slo-ttft-ms": str(int(headers["x-slo-ttft-ms"]) - 1)}
    for key, changed in (
        (BETA, {}),  # another tenant's
        (ACME, tighter),
        (ACME, {"x-slo-tpot-ms": "1"}),
        (ACME, {"x-scorpio-quote": headers["x-scorpio-quote"][:-1] + "x"}),
        (ACME, {"x-scorpio-quote": "f" + headers["x-scorpio-quote"]}),
        (ACME, {"x-scorpio-quote": ""}),
        (ACME, {"x-scorpio-quote": "-"}),
        (ACME, {"x-scorpio-quote": "1-2-3-4-5-6-é"}),
    ):
        assert (await keyed.chat(key, headers=headers | changed)).status == 200
        assert XARG_QUOTED not in keyed.told
    body = CHAT | {"vllm_xargs": {XARG_QUOTED: "1", "slo_ttft_ms": 9}}
    await keyed.call("POST", PATH, body, bearer(ACME))
    assert XARG_QUOTED not in keyed.told  # no client says so itself
    await keyed.chat(ACME, headers=headers)
    assert keyed.told[XARG_QUOTED] == "1"  # none of these has used it up


async def test_a_first_token_and_a_refusal_teach(tmp_path: Path) -> None:
    keyed = quoting(tmp_path)
    keyed.engine.answers = [tokens(1), refused(NEVER)]
    for status in (200, 429):
        reply = await keyed.call("POST", QUOTE_PATH, {"prompt_tokens": 100_000}, bearer(ACME))
        reply = await keyed.chat(ACME, headers=reply.json()["headers"])
        assert reply.status == status
    # both are no quotes that held: the first came much sooner than a prompt of that length takes
    told = (await keyed.call("GET", "/scorpio/status")).json()
    assert told["quotes"] == {"given": 2, "kept": 0, "broken": 2}
    reply = await keyed.call("POST", QUOTE_PATH, {"prompt_tokens": 100_000}, bearer(ACME))
    assert reply.json()["learned_from"] == 2


def desk(now: list[float], **config: Any) -> QuoteDesk:
    load = ReplicaLoad(0.0).to_dict()
    return QuoteDesk(lambda: {0: {"replica": ENGINE, "load": load}}, None, lambda: now[0], **config)


def test_a_quote_is_over_after_a_while() -> None:
    now = [100.0]
    made = desk(now)
    quote = made.ask(100, 10, float("inf"))
    assert quote is not None
    asked = Slo(quote.ttft.high_s + 0.001, quote.tpot.high_s + 0.001)
    early, late = made.token(quote, "a"), made.token(quote, "a")
    now[0] += VALID_S - 0.1
    assert made.taken(early, "a", asked) is not None
    late = made.token(quote, "a")
    now[0] += VALID_S + 0.1
    assert made.taken(late, "a", asked) is None


def test_what_is_sent_is_noted_while_quotes_are_asked_for_only() -> None:
    now = [100.0]
    made = desk(now)
    assert made.ask(100, 10, float("inf")) is not None
    since = made.quotes._view._since[0]
    now[0] += VALID_S
    made.sent(100, Slo(1.0))
    assert len(since) == 1
    now[0] += 0.1
    for _ in range(1000):
        made.sent(100, Slo(1.0))
    assert len(since) == 1  # no question looks at it any more, so it must not grow


def test_two_processes_of_a_server_know_each_others_quotes(tmp_path: Path) -> None:
    (tmp_path / channel.LEDGER_SALT).write_text("ab" * 32)
    load = ReplicaLoad(0.0).to_dict()
    one, two = (
        QuoteDesk(lambda: {0: {"replica": ENGINE, "load": load}}, str(tmp_path)) for _ in range(2)
    )
    quote = one.ask(100, 10, float("inf"))
    assert quote is not None
    asked = Slo(quote.ttft.high_s + 0.001, quote.tpot.high_s + 0.001)
    assert two.taken(one.token(quote, ""), "", asked) is not None
    assert desk([0.0]).taken(one.token(quote, ""), "", asked) is None  # another server's


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        ([], "body"),
        ({}, "prompt_tokens"),
        ({"prompt_tokens": 1, "prompt": "a"}, "prompt_tokens"),
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"prompt_tokens": 1.5}, "prompt_tokens"),
        ({"prompt_tokens": True}, "prompt_tokens"),
        ({"prompt_tokens": 1, "max_tokens": -1}, "max_tokens"),
        ({"prompt_tokens": 1, "slo_tpot_ms": "soon"}, "slo_tpot_ms"),
        ({"prompt_tokens": 1, "slo_ttft_ms": 5}, "slo_ttft_ms"),
    ],
)
async def test_bad_questions_name_the_field(tmp_path: Path, body: Any, field: str) -> None:
    reply = await quoting(tmp_path).call("POST", QUOTE_PATH, body, bearer(ACME))
    assert (reply.status, reply.json()["error"]["param"]) == (400, field)


async def test_no_quote_without_a_key_a_profile_or_the_policy(tmp_path: Path) -> None:
    keyed = quoting(tmp_path)
    body = {"prompt_tokens": 1}
    assert (await keyed.call("POST", QUOTE_PATH, body)).status == 401
    publish(keyed.run_dir, running=8)
    time.sleep(0.001)
    reply = await keyed.call("POST", QUOTE_PATH, body, bearer(ACME))
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    for name, config in (("fcfs", {"policy": "fcfs"}), ("profile", {"latency": None})):
        folder = tmp_path / name
        folder.mkdir()
        other = quoting(folder, CLASSES, **config)
        state = channel.read_status(other.run_dir)
        assert state is not None
        channel.write_status(other.run_dir, state | {"policy": config.get("policy", "scorpio")})
        reply = await other.call("POST", QUOTE_PATH, body)
        assert reply.status == 409
        assert name in json.loads(reply.body)["error"]["message"]
