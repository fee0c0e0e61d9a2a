"""What does a person see, by eye, by keyboard and by screen reader? The page in a real Chromium."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from scorpio.server.page.listening import Listeners
from tests.ledger.made import entry, write
from tests.server.page_scene import TOKEN, Scene, busy, served

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt install chromium)"),
    pytest.mark.xdist_group("chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as made:
        started = await made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        await started.close()


class Visit:
    """A tab, and all that it said and asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.urls: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))
        page.on("request", lambda request: self.urls.append(request.url))

    async def text(self, selector: str) -> str:
        return " ".join((await self.page.locator(selector).inner_text()).split())

    async def shown(self) -> None:
        await self.page.locator("#page").wait_for(state="visible")

    async def door(self) -> None:
        await self.page.get_by_label("Admin token").wait_for(state="visible")

    async def until(self, selector: str, pattern: str, within_s: float = 15.0) -> None:
        await playwright.expect(self.page.locator(selector)).to_have_text(
            re.compile(pattern), timeout=within_s * 1000
        )


async def visit(browser: Any, url: str, token: str = TOKEN, **how: Any) -> Visit:
    """The page, after the token was typed; "" = it is not asked for."""
    context = await browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | how))
    found = Visit(await context.new_page())
    await found.page.goto(f"{url}/scorpio/")
    if token:
        await found.page.get_by_label("Admin token").fill(token)
        await found.page.keyboard.press("Enter")
        await found.shown()
    return found


async def test_the_numbers_are_the_server_s_and_stay_up_to_date(
    browser: Any, tmp_path: Path
) -> None:
    scene = busy(tmp_path)
    async with served(scene) as url:
        seen = await visit(browser, url)
        await seen.until("#live", r"live, \d\d:\d\d:\d\d")
        assert await seen.page.title() == "Scorpio"
        assert "tiny · policy scorpio 0.1.0 · 1 engine" in await seen.text("#facts")
        tiles = await seen.text("#tiles")
        for name in ("Goodput", "Attainment", "Queue", "Batch", "KV"):
            assert name in tiles
        counts = scene.counts["standard"]
        ended = counts["outcomes"]["finished"] + counts["outcomes"]["rejected"]
        row = await seen.text("#classes tr[data-key=standard]")
        assert f"{counts['good'] / ended * 100:.1f} %" in row
        assert "TTFT 2,000 ms, TPOT 100 ms; reject" in row
        assert "burns now" in row
        assert "class standard: in the last 5 minutes" in await seen.text("#problems")
        assert "no first token in time" in await seen.text("#refusals")
        assert await seen.page.locator("#decisions tr:not(.why)").count() == 20
        assert "f6ace85dd5b8" in await seen.text("#tenants")
        assert "p50 412 µs, p99 1.6 ms" in await seen.text("#health")
        scene.runs(30)  # the overload is over; no one reloads the page
        await seen.until("#problems", "All well")
        await seen.until("#live", "live")
        assert seen.said == []
        assert all(asked.startswith(url) for asked in seen.urls)
        assert not [asked for asked in seen.urls if TOKEN in asked]


async def test_a_wrong_token_is_told_and_the_right_one_is_kept_in_the_tab(
    browser: Any, tmp_path: Path
) -> None:
    scene = Scene(tmp_path)
    scene.runs(2)
    async with served(scene) as url:
        seen = await visit(browser, url, token="")
        await seen.door()
        assert await seen.page.evaluate("document.activeElement.id") == "token"
        assert seen.said == []
        for wrong in ("wrong", "zwölf"):
            await seen.page.keyboard.type(wrong)
            await seen.page.keyboard.press("Enter")
            await seen.until("#door-said", "not the server's token|letters, digits")
            assert await seen.page.evaluate("document.activeElement.id") == "token"
        assert not await seen.page.locator("#page").is_visible()
        await seen.page.keyboard.type(TOKEN)
        await seen.page.keyboard.press("Enter")
        await seen.shown()
        await seen.page.reload()
        await seen.shown()
        assert await seen.page.evaluate("Object.keys(localStorage).length + document.cookie") == "0"
        await seen.page.get_by_role("button", name="Forget the token").click()
        await seen.door()
        assert await seen.page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize("is_open", [True, False])
async def test_without_a_token_it_is_open_or_says_what_is_missing(
    browser: Any, tmp_path: Path, is_open: bool
) -> None:
    scene = Scene(tmp_path, open_to_all=is_open)
    scene.context.environ = {}
    scene.runs(2)
    async with served(scene) as url:
        seen = await visit(browser, url, token="")
        if is_open:
            await seen.shown()
            assert not await seen.page.get_by_role("button", name="Forget").is_visible()
        else:
            await seen.until("#closed", "no SCORPIO_ADMIN_TOKEN")
            assert not await seen.page.locator("#door").is_visible()
        assert seen.said == []


async def test_it_is_read_and_worked_by_keyboard(browser: Any, tmp_path: Path) -> None:
    scene = busy(tmp_path)
    async with served(scene) as url:
        seen = await visit(browser, url)
        press, page = seen.page.keyboard.press, seen.page
        await page.reload()  # the focus is where it begins
        await seen.shown()
        reached = []
        for _ in range(5):
            await press("Tab")
            reached.append(await page.evaluate("document.activeElement.textContent"))
            outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
        assert reached == ["Skip to the numbers", "Pause", "Forget the token", "why", "why"]
        row = page.locator("#decisions tr.why").nth(1)
        assert not await row.is_visible()
        await press("Enter")
        assert "Its first token" in await row.inner_text()
        await asyncio.sleep(2.5)  # the next event has come
        assert await row.is_visible()
        assert await page.evaluate("document.activeElement.ariaExpanded") == "true"
        await press("Enter")
        assert not await row.is_visible()
        pause = page.get_by_role("button", name="Pause")
        await pause.focus()
        await press("Space")
        assert await pause.get_attribute("aria-pressed") == "true"
        await seen.until("#live", "paused at")
        scene.runs(30)
        await asyncio.sleep(2.5)
        assert "burns now" in await seen.text("#classes")
        await press("Space")
        await seen.until("#problems", "All well")
        assert seen.said == []


async def test_what_a_screen_reader_is_told(browser: Any, tmp_path: Path) -> None:
    scene = busy(tmp_path)
    async with served(scene) as url:
        seen = await visit(browser, url)
        tree = await seen.page.locator("body").aria_snapshot()
    assert '- heading "Scorpio" [level=1]' in tree
    parts = ("Now", "Promises by class", "Predicted against actual", "Refusals by reason",
             "Policy health", "Engines", "Tenants", "Last decisions")  # fmt: skip
    for name in parts:
        assert f'- region "{name}"' in tree
        assert f'- heading "{name}" [level=2]' in tree
    assert '- rowheader "standard TTFT 2,000 ms, TPOT 100 ms; reject"' in tree
    assert '- columnheader "Burn rate"' in tree
    assert re.search(
        r'img "Goodput in requests/s, last 10 minutes: [\d.]+ to [\d.]+, now [\d.]+', tree
    )
    assert re.search(r'img "Attainment of standard, last 10 minutes: \d\d\.\d % to 100 %', tree)
    assert re.search(r'img "TTFT: 200 requests; [\d.]+ % took longer than predicted', tree)
    assert re.search(r'- button "Why, request chatcmpl-\w+"', tree)
    assert len(re.findall(r"\bimg\b(?! \")", tree)) == 0  # none without words


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_nothing_that_axe_knows_is_wrong(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.async_playwright")
    scene = busy(tmp_path)
    scene.runs(90, load=2.0, fallbacks=2, breaker_open=True, faults={"policy: KeyError": {
        "count": 2, "first_unix_s": 1.0, "last_unix_s": 2.0}})  # fmt: skip
    async with served(scene) as url:
        how = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
        # axe is a script that the page's own policy would not let in
        seen = await visit(browser, url, token="", bypass_csp=True, **how)
        await seen.door()
        results = [await axe.Axe().run(seen.page)]
        await seen.page.keyboard.type(TOKEN)
        await seen.page.keyboard.press("Enter")
        await seen.shown()
        assert "burns fast" in await seen.text("#classes")
        await seen.page.get_by_role("button", name="Why").first.click()
        results.append(await axe.Axe().run(seen.page))
        background = await seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
        assert (await seen.page.title()).startswith("(")
        # the page itself never scrolls sideways; a table that is too wide does, by keys, too
        assert await seen.page.evaluate("document.scrollingElement.scrollWidth") == width
        wide = seen.page.locator(".scroll").nth(0)
        assert await wide.get_attribute("tabindex") == ("0" if width == 360 else "-1")
    found = [(v["id"], v["nodes"][0]["html"]) for r in results for v in r.response["violations"]]
    assert found == []


async def test_what_a_client_says_is_text(browser: Any, tmp_path: Path) -> None:
    bad = "<img src=x onerror=alert(1)>"
    scene = Scene(tmp_path, more={"classes": {bad: {"ttft_ms": 500}}, "default_class": bad})
    scene.runs(1, policy_version=bad, faults={bad: {"count": 1}})
    write(tmp_path, entry(id=bad, tenant=bad, slo_class=bad), entry(id='"><script>alert(2)'))
    async with served(scene) as url:
        seen = await visit(browser, url)
        for part in ("#decisions", "#tenants", "#classes", "#health", "#facts"):
            assert bad in await seen.text(part)
        assert await seen.page.locator("img, script:not([src])").count() == 0
        assert seen.said == []


async def test_without_a_stream_it_polls(browser: Any, tmp_path: Path) -> None:
    scene = busy(tmp_path)
    scene.page.routes._listeners = Listeners(scene.page._over, 60.0, most=0)
    async with served(scene) as url:
        seen = await visit(browser, url)
        await seen.until("#live", "polling, ")
        scene.runs(30)
        await seen.until("#problems", "All well")


async def test_a_server_that_drains_is_followed(browser: Any, tmp_path: Path) -> None:
    scene = busy(tmp_path)
    async with served(scene) as url:
        seen = await visit(browser, url)
        scene.context.flights.draining = True
        await seen.until("#problems", "the server is shutting down")
        async with seen.page.expect_request("**/scorpio/events"):
            pass  # each stream of it ends at once: the page asks for the next one
        await seen.until("#live", "live")


async def test_a_server_that_goes_is_missed_and_found_again(browser: Any, tmp_path: Path) -> None:
    scene = busy(tmp_path)
    async with served(scene) as url:
        seen = await visit(browser, url)
        await seen.until("#live", "live")
    # A stream lasts an hour: a server that waited for it would not have ended.
    await seen.until("#live", "no answer since .*, trying again")
    assert await seen.text("#said") == "The server does not answer; trying again"
    assert await seen.page.locator("#page").is_visible()  # what was last known
    async with served(scene, int(url.rsplit(":", 1)[1])):
        await seen.until("#live", "live", within_s=30)


async def test_nothing_moves_for_those_who_do_not_want_it(browser: Any, tmp_path: Path) -> None:
    async with served(Scene(tmp_path, open_to_all=True)) as url:
        seen = await visit(browser, url, token="", reduced_motion="reduce")
        await seen.shown()
        moving = "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one)"
        moving += ".transitionDuration !== '0s' || getComputedStyle(one).animationName !== 'none')"
        assert await seen.page.evaluate(f"{moving}.length") == 0
