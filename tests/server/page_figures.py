"""Draws the figures of docs/status-page.md: `python -m tests.server.page_figures`.

The scene is the one of the tests; the browser is Debian's chromium.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import ViewportSize, async_playwright

from tests.server.page_scene import TOKEN, busy, served

FIGURES = Path(__file__).parents[2] / "docs/figures"
SIZE: ViewportSize = {"width": 1180, "height": 1140}
_CHROMIUM = "/usr/bin/chromium"


async def draw(folder: Path) -> None:
    """status-page-light.png and status-page-dark.png."""
    with tempfile.TemporaryDirectory() as run_dir:
        scene = busy(Path(run_dir))
        scene.context.model_name = "Qwen2.5-7B-Instruct"
        async with served(scene) as url, async_playwright() as made:
            browser = await made.chromium.launch(
                executable_path=_CHROMIUM, args=["--no-sandbox", "--hide-scrollbars"]
            )
            for scheme in ("light", "dark"):
                page = await browser.new_page(color_scheme=scheme, viewport=SIZE)
                await page.goto(f"{url}/scorpio/")
                await page.get_by_label("Admin token").fill(TOKEN)
                await page.keyboard.press("Enter")
                await page.locator("#decisions button").first.wait_for()
                await page.screenshot(path=folder / f"status-page-{scheme}.png")
            await browser.close()


if __name__ == "__main__":
    asyncio.run(draw(FIGURES))
