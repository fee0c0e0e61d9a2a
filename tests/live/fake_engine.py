"""A server whose engine has known coefficients: answers at once, and writes the steps it "ran".

Follows the run directory as the real engine does: control.json is read on each request only,
status.json names the wish that is in force, steps.jsonl grows while recording is on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from scorpio import channel
from scorpio.core.latency import StepModel

TRUTH = StepModel(0.05, 6e-3, 4e-3, 48.0, 2e-7, 1e-7, 2e-6)

FACTS = {"architecture": "FakeForCausalLM", "layers": 2, "dtype": "float32", "max_num_seqs": 64}


class FakeEngine:
    """One server with its run directory; `broken` makes every completion an HTTP 500."""

    def __init__(self, run_dir: Path, follows_control: bool = True) -> None:
        self.run_dir = run_dir
        self.broken = False
        self.policy = "scorpio-paper"
        self.history: list[str] = []  # the policy in force at each completion
        self.requests: list[dict[str, Any]] = []
        self._follows_control = follows_control
        self._running: dict[int, int] = {}
        self._seen_prompts: list[list[int]] = []
        self._steps = 0
        self._recording = False
        self._seq = 0

    def app(self) -> web.Application:
        """Routes of a vLLM server that the profiler and the admin client use."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/health", self._version)
        app.router.add_get("/scorpio/status", self._status)
        app.router.add_put("/scorpio/policy", self._switch)
        return app

    async def _status(self, _request: web.Request) -> web.Response:
        status = channel.read_status(self.run_dir) or {"policy": self.policy}
        return web.json_response(status | {"engine": FACTS})

    async def _switch(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer secret":
            return web.Response(status=401, text="needs a token")
        wish = await request.json()
        seq = channel.write_control(self.run_dir, wish["policy"], wish["options"])
        return web.json_response({"control_seq": seq})

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "fake", "max_model_len": 4096}]})

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def _metrics(self, _request: web.Request) -> web.Response:
        labels = 'block_size="128",engine="0",num_gpu_blocks="400"'
        lines = [
            "# HELP vllm:num_preemptions_total Made up.",
            f"vllm:cache_config_info{{{labels}}} 1.0",
            'vllm:num_preemptions_total{engine="0"} 1.0',
            'vllm:num_preemptions_total{engine="1"} 2.0',
            f'vllm:num_requests_running{{engine="0"}} {len(self._running)}.0',
            'vllm:num_requests_waiting{engine="0"} 2.0',
            'vllm:kv_cache_usage_perc{engine="0"} 0.25',
            "scorpio_admission_rejections_total 7.0",
        ]
        return web.Response(text="\n".join([*lines, ""]))

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        if self.broken:
            return web.Response(status=500, text="engine dead")
        self._poll_control()
        self.history.append(self.policy)
        prompt: list[int] = body["prompt"]
        prefix = self._cached(prompt)
        self._step(len(prompt) - prefix, prefix)
        key = id(body)
        self._running[key] = len(prompt)
        try:
            for _ in range(body["max_tokens"] - 1):
                await asyncio.sleep(0)
                self._running[key] += 1
                self._step(0, 0)
        finally:
            del self._running[key]
        self._publish()
        choice = {"index": 0, "text": "x", "finish_reason": "length"}
        if not body.get("stream"):
            return web.json_response({"choices": [choice]})
        usage = {"completion_tokens": body["max_tokens"], "prompt_tokens": len(prompt)}
        event = json.dumps({"choices": [choice], "usage": usage})
        return web.Response(
            text=f"data: {event}\n\ndata: [DONE]\n\n", content_type="text/event-stream"
        )

    def _cached(self, prompt: list[int]) -> int:
        known = max((len(p) for p in self._seen_prompts if prompt[: len(p)] == p), default=0)
        self._seen_prompts.append(prompt)
        return known if known < len(prompt) else 0

    def _step(self, n: int, p: int) -> None:
        decodes, context = len(self._running), sum(self._running.values())
        self._steps += 1
        if not self._recording:
            return
        row = {
            "prefill_tokens": n,
            "prefill_sq_tokens": float(n * n),
            "prefill_prefix_products": float(n * p),
            "num_decodes": decodes,
            "decode_context_tokens": context,
            "duration_s": TRUTH.step_s(decodes, context, n, n * n, n * p),
        }
        with (self.run_dir / channel.STEPS).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _poll_control(self) -> None:
        control = channel.read_control(self.run_dir)
        if control is not None and self._follows_control:
            self.policy, self._seq = control.policy, control.seq
            self._recording = control.record_steps
        self._publish()

    def _publish(self) -> None:
        status = {
            "policy": self.policy,
            "control_seq": self._seq,
            "steps": self._steps,
            "running": len(self._running),
            "waiting": 0,
        }
        channel.write_status(self.run_dir, status)


@contextlib.contextmanager
def in_thread(fake: FakeEngine) -> Iterator[str]:
    """Serve `fake` from a thread of its own, for clients that block; yields its URL."""
    loop = asyncio.new_event_loop()
    server = TestServer(fake.app(), loop=loop)
    loop.run_until_complete(server.start_server())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield str(server.make_url("/")).rstrip("/")
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
