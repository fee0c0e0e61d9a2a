"""Who may see the page's data, what do they hold, and does a stream end when it should?"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from scorpio import channel
from scorpio.server.page.routes import DATA_PATH, EVENTS_PATH, PAGE_PATHS, ROOT_PATH
from tests.server.page_scene import GOOD, TOKEN, Scene, ask, served

SHELL = (ROOT_PATH, "/scorpio/page.css", "/scorpio/page.js")


@pytest.mark.parametrize("path", SHELL)
async def test_the_shell_is_open_and_says_nothing_of_the_server(tmp_path: Path, path: str) -> None:
    replies = []
    for directory in ("busy", "bare"):
        (tmp_path / directory).mkdir()
        scene = Scene(tmp_path / directory)
        if directory == "busy":
            scene.runs(1)
            scene.writes(5)
        else:
            scene.context.environ = {}
        replies.append(await ask(scene, path))
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[0].body == replies[1].body
    assert replies[0].headers == replies[1].headers


async def test_every_answer_is_guarded(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.runs(1)
    for path in sorted(PAGE_PATHS - {EVENTS_PATH}):
        for headers in ({}, GOOD):
            found = (await ask(scene, path, headers)).headers
            policy = dict(part.strip().split(" ", 1) for part in
                          found["content-security-policy"].split(";"))  # fmt: skip
            assert policy["default-src"] == "'none'"
            assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {
                "'self'"
            }
            assert policy["frame-ancestors"] == policy["form-action"] == "'none'"
            assert policy["require-trusted-types-for"] == "'script'"
            assert found["x-content-type-options"] == "nosniff"
            assert found["referrer-policy"] == "no-referrer"
    assert (await ask(scene, DATA_PATH, GOOD)).headers["cache-control"] == "no-store"


def test_the_shell_asks_for_nothing_from_elsewhere() -> None:
    folder = files("scorpio.server.page")
    texts = {name: folder.joinpath(name).read_text() for name in ("index.html", "page.css")}
    script = folder.joinpath("page.js").read_text()
    for text in (*texts.values(), script.replace("http://www.w3.org/2000/svg", "")):
        assert "://" not in text
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in script
    assert "style=" not in texts["index.html"]
    assert "localStorage" not in script


@pytest.mark.parametrize("path", [DATA_PATH, EVENTS_PATH])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer sesam\xe9"}, 401),
    ],
)
async def test_data_want_the_token(
    tmp_path: Path, path: str, headers: dict[str, str], status: int
) -> None:
    scene = Scene(tmp_path)
    scene.runs(1)
    reply = await ask(scene, path, headers)
    assert reply.status == status
    assert reply.headers["www-authenticate"] == "Bearer"
    assert b"interactive" not in reply.body
    assert (await ask(scene, DATA_PATH, GOOD)).status == 200  # a refusal is kept for none
    assert (await ask(scene, path, headers)).status == status  # nor an answer for others


async def test_a_token_in_the_url_opens_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for path in (DATA_PATH, EVENTS_PATH):
        async with (
            served(scene) as url,
            ClientSession() as session,
            session.get(f"{url}{path}?token={TOKEN}&access_token={TOKEN}") as answer,
        ):
            assert answer.status == 401


async def test_without_a_token_it_is_closed_and_says_what_opens_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.context.environ = {}
    for path in (DATA_PATH, EVENTS_PATH):
        reply = await ask(scene, path, GOOD)
        assert reply.status == 403
        said = reply.json()["error"]["message"]
        assert "SCORPIO_ADMIN_TOKEN" in said
        assert "open_status_page" in said
    assert (await ask(scene, "/scorpio/access")).json() == {"access": "off"}


async def test_the_operator_may_open_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, open_to_all=True)
    scene.context.environ = {}
    scene.runs(1)
    assert (await ask(scene, "/scorpio/access")).json() == {"access": "open"}
    assert (await ask(scene, DATA_PATH)).status == 200
    # but not to change anything
    assert (await ask(scene, "/scorpio/policy", method="PUT")).status == 403


async def test_it_is_read_only(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for path in sorted(PAGE_PATHS):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await ask(scene, path, method=method)).status == 401
            assert (await ask(scene, path, GOOD, method)).status == 404
    assert channel.read_control(tmp_path) is None
    bare = await ask(scene, "/scorpio")
    assert (bare.status, bare.headers["location"]) == (308, "scorpio/")


async def test_one_content_serves_all_that_ask_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    monkeypatch.setattr("scorpio.server.page.served._FRESH_S", 3600.0)
    made = 0
    entries = scene.page._ledger.entries

    def counted() -> Any:
        nonlocal made
        made += 1
        return entries()

    monkeypatch.setattr(scene.page._ledger, "entries", counted)
    replies = await asyncio.gather(*(ask(scene, DATA_PATH, GOOD) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert made == 1


async def test_an_error_of_the_page_is_the_page_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path)
    monkeypatch.setattr(scene.page._ledger, "entries", lambda: [object()])
    for _ in range(2):
        scene.page._made = (float("-inf"), scene.page._made[1])
        reply = await ask(scene, DATA_PATH, GOOD)
        assert reply.status == 500
    assert scene.context.history.errors == 2
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "Scorpio: the status page could not be made (logged once)"
    ]
