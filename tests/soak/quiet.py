"""Is everything given back when there are no requests? A look at an engine without load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from scorpio.live.control.scrape import scrape
from tests.soak.record import Quiet

KV_USED, RUNNING = "vllm:kv_cache_usage_perc", "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
_LOOKS, _PERIOD_S = 100, 0.3


async def look_when_quiet(
    session: aiohttp.ClientSession, url: str, model: str, failed: Callable[[str], None]
) -> Quiet:
    """The first clean look, or the last of many. The engine publishes only in a step: so a small
    request goes before each. `failed` hears of each that was not served."""
    body = {"model": model, "prompt": "a", "max_tokens": 1}
    look = Quiet(0.0, 1.0, -1, -1)
    for _ in range(_LOOKS):
        try:
            async with session.post(url + "/v1/completions", json=body) as got:
                await got.read()
                if got.status != 200:
                    failed(f"HTTP {got.status}")
        except (aiohttp.ClientError, OSError) as error:  # a time-out is an OSError
            failed(f"{type(error).__name__}: {error}")
        else:
            now = await asyncio.to_thread(scrape, url)
            look = Quiet(
                0.0, now.get(KV_USED, 1.0), int(now.get(RUNNING, -1)), int(now.get(WAITING, -1))
            )
            if look.clean:
                break
        await asyncio.sleep(_PERIOD_S)
    return look
