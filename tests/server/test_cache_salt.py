"""Does each account have a prefix cache of its own when the operator says so?"""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.core.slo import XARG_TENANT
from scorpio.server.accounts.cache_salt import salted
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import FakeEngine, FakeServer, client, tokens


def salt(tenant: str, own: str | None = None) -> str | None:
    prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": [1]}
    made = salted(prompt if own is None else prompt | {"cache_salt": own}, tenant)
    assert made["prompt_token_ids"] == [1]
    return made.get("cache_salt")


def test_accounts_are_kept_apart_and_names_within_one_are_not() -> None:
    assert salt("key-0/") == salt("key-0/a") == salt("key-0/b")
    assert salt("key-0/") != salt("key-1/")
    assert salt("key-0/", "mine") == salt("key-0/a", "mine") != salt("key-0/")
    # no salt of a client is another account's
    theirs = salt("key-1/")
    for own in (theirs, "key-1/", "1/"):
        assert salt("key-0/", own) != theirs
    made = salt("key-0/")
    assert made is not None
    assert made.isalnum()  # vLLM allows no "/" in it
    assert len(made) <= 128


@pytest.mark.parametrize("tenant", ["", "name", "/key-0/x"])
def test_an_account_not_checked_has_the_common_one(tenant: str) -> None:
    assert salt(tenant) is None
    assert salt(tenant, "own") == "own"


@pytest.mark.parametrize("isolate", [False, True])
async def test_it_is_the_operators_choice(isolate: bool) -> None:
    async def behave(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
        prompt = {"type": "token", "prompt_token_ids": [1], "cache_salt": "own"}
        params = fake.SamplingParams()
        async for _ in server.handler.engine_client.generate(prompt, params, "id"):
            pass
        await fake.start(send, "application/json")
        await send({"type": "http.response.body", "body": b"{}"})

    seen: list[Any] = []
    engine = FakeEngine([tokens(1)])
    generate = engine.generate
    engine.generate = lambda prompt, *a, **k: seen.append(prompt) or generate(prompt, *a, **k)  # type: ignore[method-assign, func-returns-value]
    config = {"isolate_cache": isolate}
    server = FakeServer(engine, config, api_keys=["sesame"], behave=behave)
    bearer = {"authorization": "Bearer sesame"}
    await client(server).request("POST", "/v1/completions", b"{}", bearer)
    assert (engine.params[0].extra_args or {})[XARG_TENANT] == "key-0/"
    assert seen[0]["cache_salt"] == (salt("key-0/", "own") if isolate else "own")
