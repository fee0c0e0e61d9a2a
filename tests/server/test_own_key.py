"""Does what measures a server get in where clients need keys or TLS, and nothing else with it?"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from predictors.latency.access import Access
from scorpio.server.launch.auto_profile import AutoProfile, auto_profile
from scorpio.server.vllm_api import give_own_key
from tests.server.fake_vllm import FakeEngine, FakeServer
from tests.server.keyed import CLASSES, Keyed, bearer, slo_file
from tests.server.real_http import real_http


@pytest.mark.parametrize(("text", "vllms"), [(slo_file(), None), (CLASSES, ["k"]), (CLASSES, None)])
async def test_the_own_key_opens_what_serves(
    tmp_path: Path, text: str, vllms: list[str] | None
) -> None:
    keyed = Keyed(tmp_path, text, api_keys=vllms)
    key = give_own_key(keyed.server.state.args)
    assert (await keyed.chat(key)).status == 200
    headers = dict(keyed.server.scopes[-1]["headers"])
    assert key.encode() not in b"".join(headers.values()) or vllms is None
    if vllms is not None:  # as vLLM wants it behind us
        assert headers[b"authorization"] == b"Bearer k"
    assert keyed.told.get("slo_tenant", "") == ""
    for method, path in (("POST", "/v1/load_lora_adapter"), ("PUT", "/scorpio/policy")):
        reply = await keyed.call(method, path, b"{}", bearer(key))
        if path.startswith("/scorpio") or text != CLASSES:
            assert reply.status in (401, 403)


async def test_no_other_key_opens_it(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    key = give_own_key(keyed.server.state.args)
    assert len(key) >= 43
    for wrong in (None, "", key[:-1], key + "x", "\xff"):
        assert (await keyed.chat(wrong)).status == 401
    second = SimpleNamespace()
    assert give_own_key(second) != key


async def test_without_one_an_empty_key_is_none(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    assert (await keyed.chat("")).status == 401


def args_of(**given: Any) -> Any:
    plain = {"uds": None, "host": None, "port": 8000, "ssl_certfile": None, "ssl_cert_reqs": 0}
    return SimpleNamespace(**plain | given)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8000"),
        ({"host": "::"}, "http://[::1]:8000"),
        ({"host": "10.1.2.3", "port": 9000}, "http://10.1.2.3:9000"),
        ({"ssl_certfile": "c.pem"}, "https://127.0.0.1:8000"),
    ],
)
def test_where_it_asks(given: dict[str, Any], url: str, tmp_path: Path) -> None:
    found = auto_profile(args_of(**given), tmp_path, "tiny", tmp_path / "out.json", print)
    assert isinstance(found, AutoProfile)
    assert found.url == url
    assert found.key
    assert found.certificate == (Path("c.pem") if "ssl_certfile" in given else None)


@pytest.mark.parametrize("given", [{"uds": "/x"}, {"ssl_certfile": "c", "ssl_cert_reqs": 2}])
def test_where_it_cannot(given: dict[str, Any], tmp_path: Path) -> None:
    found = auto_profile(args_of(**given), tmp_path, "tiny", tmp_path / "out.json", print)
    assert "scorpio profile" in str(found)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """(certificate, key) of a server that nothing else has signed, in another host's name."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}.example", "-out", str(made), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
async def test_the_servers_own_certificate_is_believed_and_no_other(tmp_path: Path) -> None:
    (mine, key), (other, _) = certificate(tmp_path, "mine"), certificate(tmp_path, "other")
    application = FakeServer(FakeEngine(), {})
    tls = {"ssl_certfile": str(mine), "ssl_keyfile": str(key)}
    async with real_http(application, "httptools", **tls) as server:
        url = f"https://127.0.0.1:{server.port}/scorpio/status"

        async def status(access: Access) -> Any:
            connector = aiohttp.TCPConnector(ssl=access.tls())
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(url) as answer,
            ):
                return json.loads(await answer.text())

        assert "policy" in await status(Access({}, mine))
        for wrong in (Access({}, other), Access()):
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await status(wrong)
    with pytest.raises(FileNotFoundError):
        Access({}, tmp_path / "none.pem").tls()
