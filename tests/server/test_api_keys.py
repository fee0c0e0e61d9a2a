"""Whom do keys of the SLO file let in, and what does a request without one get?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scorpio.server.accounts.api_keys import ApiKeys
from scorpio.server.context import attach_server
from scorpio.settings import SettingsError
from scorpio.tenant_settings import TenantSettings, key_line
from tests.server.fake_vllm import FakeEngine, FakeServer
from tests.server.keyed import ACME, BETA, Keyed, bearer, slo_file
from tests.server.posting import CHAT


def scope(path: str = "/v1/models", **headers: str) -> dict[str, Any]:
    raw = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    return {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": raw}


def test_a_key_is_found_by_its_hash_alone() -> None:
    keys = ApiKeys({"acme": TenantSettings(keys=(key_line(ACME),))}, ["vllms-own"])
    assert keys.account(scope(authorization=f"Bearer {ACME}")) == "acme"
    assert keys.account(scope(authorization=f"bearer {ACME}")) == "acme"
    assert keys.account(scope(authorization="Bearer vllms-own")) == "key-0"
    for wrong in ("", "Bearer", "Bearer ", f"Basic {ACME}", ACME, f"Bearer {ACME} ", "Bearer \xff"):
        assert keys.account(scope(authorization=wrong)) is None
    assert keys.account(scope(authorization=f"Bearer {key_line(ACME)}")) is None  # the hash is none
    assert keys.account(scope()) is None
    assert ACME not in repr(vars(keys))


def test_anthropics_header_counts_on_anthropics_route_alone() -> None:
    keys = ApiKeys({"acme": TenantSettings(keys=(key_line(ACME),))})
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        assert keys.account(scope(path, x_api_key=ACME)) == "acme"
        assert keys.account(scope(path, x_api_key="no")) is None
        assert keys.account(scope(path, x_api_key=ACME, authorization="Bearer no")) is None
    assert keys.account(scope("/v1/completions", x_api_key=ACME)) is None


@pytest.mark.parametrize("key", [None, "", "wrong", key_line(ACME), ACME[:-1], ACME + "x"])
async def test_no_key_or_a_wrong_one_is_a_401(tmp_path: Path, key: str | None) -> None:
    keyed = Keyed(tmp_path, slo_file())
    reply = await keyed.chat(key)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    error = reply.json()["error"]
    assert (error["code"], error["type"]) == (401, "Unauthorized")
    assert keyed.server.bodies == []
    reply = await keyed.chat(key, path="/v1/messages")
    assert reply.status == 401
    assert reply.json()["error"]["type"] == "authentication_error"


async def test_the_tenant_is_the_account_whatever_the_request_says(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file(top='default_class = "batch"'))
    assert (await keyed.chat(ACME, user="beta/")).status == 200
    assert keyed.told["slo_tenant"] == "acme/beta/"
    assert (await keyed.chat(BETA)).status == 200
    assert keyed.told["slo_tenant"] == "beta/"


async def test_with_anthropics_header(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    reply = await keyed.call("POST", "/v1/messages", CHAT, {"x-api-key": BETA})
    assert reply.status == 200
    assert keyed.told["slo_tenant"] == "beta/"


async def test_keys_of_both_kinds_open_the_server(tmp_path: Path) -> None:
    """vLLM asks for one of its own behind us: it gets one."""
    keyed = Keyed(tmp_path, slo_file(), api_keys=["vllm-0", "vllm-1"])
    for key, tenant in ((ACME, "acme/"), ("vllm-1", "key-1/")):
        assert (await keyed.chat(key)).status == 200
        assert keyed.told["slo_tenant"] == tenant
        passed = dict(keyed.server.scopes[-1]["headers"])
        assert passed[b"authorization"] == b"Bearer vllm-0"
        assert ACME.encode() not in b" ".join(passed.values())
    assert (await keyed.chat("vllm-2")).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/version", 200),
        ("OPTIONS", "/v1/chat/completions", 200),
        ("GET", "/scorpio/status", 200),
        ("GET", "/v1/models", 401),
        ("POST", "/invocations", 401),
        ("POST", "/generative_scoring", 401),
        ("POST", "/tokenize", 401),
        ("GET", "/docs", 403),
        ("POST", "/sleep", 403),
        ("POST", "/collective_rpc", 403),
        ("POST", "/abort_requests", 403),
        ("POST", "/v1/load_lora_adapter", 403),
        ("POST", "/an/act/of/a/later/vllm", 403),
        ("GET", "//health", 403),
        ("POST", "/V1/chat/completions", 403),
    ],
)
async def test_what_is_not_listed_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int
) -> None:
    monkeypatch.delenv("SCORPIO_ADMIN_TOKEN", raising=False)
    keyed = Keyed(tmp_path, slo_file())
    assert (await keyed.call(method, path)).status == status
    assert len(keyed.server.scopes) == (status == 200 and not path.startswith("/scorpio"))


async def test_acts_on_the_engine_need_the_admin_token_not_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")
    keyed = Keyed(tmp_path, slo_file())
    for path in ("/sleep", "/v1/load_lora_adapter", "/collective_rpc"):
        assert (await keyed.call("POST", path, headers=bearer(ACME))).status == 401
        assert (await keyed.call("POST", path, headers=bearer("sesame"))).status == 200
    assert (await keyed.chat("sesame")).status == 401  # nor is it a key


@pytest.mark.parametrize("key", [None, "wrong", ACME])
async def test_a_websocket_needs_a_key(tmp_path: Path, key: str | None) -> None:
    seen: list[str] = []
    sent: list[Any] = []
    keyed = Keyed(tmp_path, slo_file(), api_keys=["vllm-0"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"])[b"authorization"].decode())

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    keyed.middleware._app = app
    headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    asked = {"type": "websocket", "path": "/v1/realtime", "headers": headers, "app": keyed.server}
    await keyed.middleware(asked, receive, send)
    assert seen == (["Bearer vllm-0"] if key == ACME else [])
    assert [m["type"] for m in sent] == ([] if key == ACME else ["websocket.close"])


async def test_tenants_without_keys_change_nothing_for_clients(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, "[tenants.acme]\nweight = 2\n")
    assert (await keyed.chat(None)).status == 200
    assert (await keyed.call("POST", "/sleep")).status == 200
    assert "slo_tenant" not in keyed.told


async def test_a_trusted_gateway_may_name_a_tenant(tmp_path: Path) -> None:
    text = "trust_fairness_id = true\n[tenants.acme]\nmost_in_flight = 1\n"
    keyed = Keyed(tmp_path, text)
    header = {"x-llm-d-inference-fairness-id": "acme"}
    reply = await keyed.chat(None, headers=header, n=2)
    assert (reply.status, reply.json()["error"]["param"]) == (400, "prompt")
    assert (await keyed.chat(None, headers=header)).status == 200
    assert (await keyed.chat(None, n=2)).status == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tenants.'a b']", "tenants: 'a b': a name has"),
        ("[tenants.key-0]", "none of key-0"),
        ("[tenants.a]\nkeys = ['sk-plain-text-key']", "entry 1 is no line of `scorpio hash-key`"),
        ("[tenants.a]\nkeys = 'x'", "tenants.a.keys"),
        (
            f"[tenants.a]\nkeys = ['{key_line('k')}']\n[tenants.b]\nkeys = ['{key_line('k')}']",
            "line 4: tenants.b.keys: a key is of tenant 'a' already",
        ),
        ("[tenants.a]\nclasses = ['x']", "'x' is not a class; valid: none are configured"),
        (
            "default_class = 'c'\n[classes.c]\n[classes.d]\n[tenants.a]\nclasses = ['d']",
            "the server's default_class 'c' is none of its classes; valid: d",
        ),
        ("[tenants.a]\ndefault_class = 'x'", "'x' is none of its classes"),
        ("[tenants.a]\nmost_tight = 1", "most_tight needs tight_ttft_ms or tight_tpot_ms"),
        ("[tenants.a]\nburst_tokens = 5", "burst_tokens needs rate_tokens_per_s"),
        ("[tenants.a]\nweight = 0", "tenants.a.weight"),
        ("[tenants.a]\nrate_tokens_per_s = '5'", "tenants.a.rate_tokens_per_s"),
        ("[tenants.a]\nmost_in_flight = 0", "tenants.a.most_in_flight"),
        ("[tenants.a]\nraw_slo = 'tighter'", "tenants.a.raw_slo"),
        ("[tenants.a]\nrate = 5", "tenants.a.rate: unknown; valid: keys, weight"),
    ],
)
def test_wrong_tenants(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        attach_server(FakeServer(FakeEngine(), {"slo_config": str(file)}))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{file}: line ")
    assert "sk-plain" not in str(caught.value)


async def test_no_key_and_no_hash_gets_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame-open-up")
    caplog.set_level("DEBUG")
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 1\nburst_tokens = 1"))
    shown = [await keyed.chat(key) for key in (ACME, ACME, BETA, f"{ACME}x", "sesame-open-up")]
    shown += [await keyed.call("GET", path) for path in ("/scorpio/status", "/metrics")]
    for key in (ACME, "sesame-open-up"):
        shown.append(await keyed.call("PUT", "/scorpio/config", headers=bearer(key)))
    texts = [reply.body.decode() + json.dumps(reply.headers) for reply in shown]
    texts += [caplog.text, *(f.read_text() for f in keyed.run_dir.iterdir())]
    assert any("acme" in text for text in texts)
    for secret in (ACME, BETA, "sesame-open-up", key_line(ACME)[7:]):
        assert not [text for text in texts if secret in text]
