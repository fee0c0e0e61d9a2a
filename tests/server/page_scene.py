"""A server that has been busy for a while, for the tests of its page and for the figures of it.

Counts, queue and ledger are made up, and the same each time: a steady load, then more than can be
served in time. What the page makes of them is the real middleware's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from scorpio import channel
from scorpio.core.plan import FinalState
from scorpio.ledger.entry import Entry
from scorpio.live.host.process import free_port
from scorpio.server.middleware import ScorpioMiddleware
from scorpio.server.page.served import ServedPage
from scorpio.server.state.history import PERIOD_S
from tests.ledger.made import entry, refused, write
from tests.server.asgi import Client, Reply
from tests.server.fake_vllm import FakeEngine, FakeServer

TOKEN = "sesame"
GOOD = {"authorization": f"Bearer {TOKEN}"}
CLASSES: dict[str, dict[str, Any]] = {
    "interactive": {"ttft_ms": 500, "tpot_ms": 50},
    "standard": {"ttft_ms": 2000, "tpot_ms": 100},
    "batch": {"on_miss": "wait"},
}
_PER_S = {"interactive": 3.0, "standard": 1.6, "batch": 0.5}
_SHED = {"interactive": 0.03, "standard": 0.3, "batch": 0.0}  # of a class, under overload
_KV_TOKENS = 183_000
_TENANTS = ("f6ace85dd5b8", "0b7712c9e41d", "9d3e55a10c77", "")


class PageServer(FakeServer):
    """It starts and ends as vLLM's does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


@dataclass
class Scene:
    """One server with `engines`. `open_to_all`: its page needs no token."""

    run_dir: Path
    engines: int = 1
    open_to_all: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    at_s: float = 0.0

    def __post_init__(self) -> None:
        config = {
            "run_dir": str(self.run_dir),
            "classes": CLASSES,
            "default_class": "standard",
            "open_status_page": self.open_to_all,
        }
        self.server = PageServer(FakeEngine(), config | self.more, engines=self.engines)
        self.middleware = ScorpioMiddleware(self.server)
        self.context = self.middleware._server({"app": self.server})
        self.context.environ = {"SCORPIO_ADMIN_TOKEN": TOKEN}
        self.context.history.now_s = lambda: self.at_s
        self.page = ServedPage(self.context)
        self.middleware._served_page = self.page
        self.counts: dict[str, dict[str, Any]] = {
            name: {
                "outcomes": {state.value: 0 for state in FinalState},
                "good": 0,
                "rejections": {},
                "forecasts": {"ttft": 0, "tpot": 0},
                "forecasts_exceeded": {"ttft": 0, "tpot": 0},
            }
            for name in CLASSES
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As uvicorn calls it, which knows no FastAPI app."""
        await self.middleware({**scope, "app": self.server}, receive, send)

    def runs(self, minutes: float, load: float = 1.0, **more: Any) -> None:
        """Some traffic; a load above one is more than can be served in time."""
        for _ in range(int(minutes * 60 / PERIOD_S)):
            self.at_s += PERIOD_S
            for name in CLASSES:
                self._ended(name, load)
            for engine in range(self.engines):
                self.says(engine, load, **more)
            self.context.history.take()

    def _ended(self, name: str, load: float) -> None:
        over = max(load - 1.0, 0.0)
        counts, draw = self.counts[name], self.chance.random
        for _ in range(round(_PER_S[name] * load * PERIOD_S * self.chance.uniform(0.7, 1.3))):
            if draw() < _SHED[name] * over:
                reason = "ttft_infeasible" if draw() < 0.9 else "tpot_infeasible"
                counts["outcomes"]["rejected"] += 1
                counts["rejections"][reason] = counts["rejections"].get(reason, 0) + 1
                continue
            counts["outcomes"]["finished"] += 1
            counts["good"] += draw() > 0.002 + 0.01 * over
            for kind in ("ttft", "tpot"):
                counts["forecasts"][kind] += 1
                counts["forecasts_exceeded"][kind] += draw() < 0.2

    def says(self, engine: int, load: float, **more: Any) -> None:
        """What an engine publishes."""
        part, draw = 1.0 / self.engines, self.chance.uniform
        waiting = int(max(load - 0.8, 0.0) * draw(8, 20) * part)
        running = int(min(load, 1.1) * draw(38, 46) * part)
        counts = self.counts if engine == 0 else {}
        state = {
            "policy": "scorpio",
            "policy_version": "0.1.0",
            "control_seq": 0,
            "control_error": "",
            "by_class": counts,
            "fallbacks": 0,
            "breaker_open": False,
            "breaker_opened": 0,
            "breakers_opened": {"errors": 0, "overrun": 0, "forecasts": 0},
            "policy_off": "",
            "passthrough": False,
            "paused": False,
            "steps": int(self.at_s * 22),
            "stock_steps": int(self.at_s * 13),
            "planned_steps": int(self.at_s * 9),
            "filled_steps": 0,
            "schedule_us": {"p50": 412.0, "p99": 1630.0},
            "step_error": {"p50": 0.031, "p99": 0.164},
            "forecast_error": {
                "ttft": {"p50": 0.082, "p99": 0.61},
                "tpot": {"p50": 0.047, "p99": 0.31},
            },
            "profile_alarm": False,
            "profile_factor": 1.02,
            "monitoring_errors": 0,
            "faults": {},
            "ledger_lines": int(self.at_s * 5),
            "ledger_dropped": 0,
            "unfinished": waiting + running,
            "running": running,
            "waiting": waiting,
            "waiting_prompt_tokens": waiting * 940,
            "replica": {"kv_tokens": _KV_TOKENS, "max_num_seqs": 64},
            "load": {"kv_free_tokens": int(_KV_TOKENS * max(1 - 0.55 * load * draw(0.9, 1.1), 0))},
            "heartbeat_unix_s": time.time(),
        }
        channel.write_status(self.run_dir, state | more, engine)

    def writes(self, requests: int, name: str = channel.LEDGER) -> None:
        """The lines of its last requests, one every 0.2 s."""
        now_s = time.time() - 2.0
        write(
            self.run_dir,
            *(self._line(now_s - (requests - at) * 0.2, at) for at in range(requests)),
            name=name,
        )

    def _line(self, ended_s: float, at: int) -> Entry:
        draw = self.chance
        label = draw.choices(list(CLASSES), [5, 3, 1])[0]
        asked = CLASSES[label]
        ttft_ms, tpot_ms = draw.lognormvariate(5.0, 0.6), draw.uniform(24, 46)
        tokens = draw.randint(20, 300)
        ended_ms = ttft_ms + tpot_ms * (tokens - 1)
        what: dict[str, Any] = {
            "id": f"chatcmpl-{draw.getrandbits(48):012x}-{draw.getrandbits(32):08x}",
            "slo_class": label,
            "slo_ttft_ms": asked.get("ttft_ms"),
            "slo_tpot_ms": asked.get("tpot_ms"),
            "on_miss": asked.get("on_miss", "reject"),
            "tenant": draw.choices(_TENANTS, [6, 3, 2, 1])[0],
            "prompt_tokens": draw.randint(80, 4000),
            "waiting": draw.randint(0, 15),
            "running": draw.randint(30, 46),
        }
        if at % 9 == 0 and label != "batch":
            return refused(**what, arrived_unix_s=ended_s - 0.03)
        return entry(
            **what,
            arrived_unix_s=ended_s - ended_ms / 1000,
            forecast_ttft_ms=ttft_ms * draw.lognormvariate(0.05, 0.18),
            forecast_tpot_ms=tpot_ms * draw.lognormvariate(0.03, 0.08),
            started_ms=ttft_ms * 0.4,
            first_token_ms=ttft_ms,
            ended_ms=ended_ms,
            mean_gap_ms=tpot_ms,
            worst_gap_ms=tpot_ms * 2,
            output_tokens=tokens,
            missed=("ttft",) if ttft_ms > asked.get("ttft_ms", 1e9) else (),
        )


async def ask(scene: Scene, path: str, headers: Any = (), method: str = "GET") -> Reply:
    client = Client(scene.middleware, scene.server)
    reply = await client.request(method, path, headers=headers, json_type=False)
    assert not scene.server.bodies  # never reaches vLLM
    return reply


@asynccontextmanager
async def served(scene: Scene, at_port: int | None = None) -> AsyncIterator[str]:
    """Its server on a socket, as uvicorn serves it; the address."""
    port = at_port or free_port()
    server = uvicorn.Server(uvicorn.Config(scene, port=port, log_level="error", ws="none"))
    scene.context.http_server = server
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


def busy(run_dir: Path, **how: Any) -> Scene:
    """An hour of steady load, then four minutes with more than can be served in time."""
    scene = Scene(run_dir, **how)
    scene.runs(60)
    scene.runs(4, load=1.6)
    scene.writes(260)
    return scene
