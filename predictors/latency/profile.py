"""How fast is the engine behind this URL? Drives a live server through designed sample points.

Only HTTP is spoken here (any OpenAI-compatible vLLM server): the engine itself times its steps
and appends them to steps.jsonl; its caller reads that file (scorpio.live.profile.record).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from predictors.latency.access import OPEN, Access
from predictors.latency.design import Ladder, Mixture, Point, Prefills, RandomLoad
from scorpio import http_client

# Ids every vocabulary of 256 and more holds; the first few are special tokens in most.
_TOKEN_IDS = range(32, 250)
_REQUEST_TIMEOUT_S = 300.0

Progress = Callable[[str, float], None]  # what is measured now, share of the work done


class ProbeError(RuntimeError):
    """The server refused or lost a probe request."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the server says about itself."""

    name: str
    max_model_len: int
    vllm: str
    kv_tokens: int | None = None  # room of the KV pool, where /metrics tells it
    engine: Mapping[str, object] = field(default_factory=dict)  # its facts, with Scorpio in it


@dataclass(frozen=True, slots=True)
class DriveResult:
    """Points measured, points left out for lack of time, and the seconds it took."""

    measured: int
    left_out: tuple[str, ...]
    elapsed_s: float


class Prober:
    """Sends prompts of exact token counts; every prompt is new unless a prefix is asked for."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, seed: int) -> None:
        self._session = session
        self._url = url
        self._model = model
        self._random = random.Random(seed)

    def prompt(self, tokens: int) -> list[int]:
        """Random token ids: never in the prefix cache."""
        return self._random.choices(_TOKEN_IDS, k=tokens)

    async def generate(self, prompt: list[int], output_tokens: int) -> None:
        """One request of exactly these sizes, waited for. Raises ProbeError."""
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
        }
        try:
            async with self._session.post(f"{self._url}/v1/completions", json=body) as answer:
                text = await answer.text()
                if answer.status != 200:
                    raise ProbeError(f"probe request: HTTP {answer.status}: {text[:300]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ProbeError(f"probe request: {type(error).__name__}: {error}") from None

    async def measure(self, point: Point) -> None:
        """Drive one sample point."""
        match point:
            case Ladder():
                await asyncio.gather(
                    *(self.generate(self.prompt(point.context), n) for n in point.output_tokens())
                )
            case Prefills():
                prefix = self.prompt(point.prefix)
                if prefix:
                    await self.generate(prefix, 1)
                for size in point.sizes:
                    await self.generate(prefix + self.prompt(size), 1)
            case Mixture():
                await self._mixture(point)

    async def _mixture(self, point: Mixture) -> None:
        running = [
            asyncio.ensure_future(self.generate(self.prompt(point.context), point.decode_tokens))
            for _ in range(point.decodes)
        ]
        try:
            await self.generate(self.prompt(point.context), 1)  # behind the decodes' own prompts
            for size in point.sizes:
                await self.generate(self.prompt(size), 1)
        finally:
            for task in running:  # decodes that outlive the arrivals: a closed connection aborts
                task.cancel()
            results = await asyncio.gather(*running, return_exceptions=True)
        for result in results:
            if isinstance(result, ProbeError):
                raise result

    async def warm_up(self) -> None:
        """First requests after start are slow and prove nothing."""
        await self.generate(self.prompt(48), 6)
        await asyncio.gather(*(self.generate(self.prompt(32), 6) for _ in range(4)))

    async def random_load(self, load: RandomLoad, rate_rps: float, duration_s: float) -> None:
        """Poisson arrivals of random sizes: steps that no design holds."""
        end_s = time.monotonic() + duration_s
        try:
            async with asyncio.TaskGroup() as tasks:
                while time.monotonic() < end_s:
                    prompt = self.prompt(self._random.choice(load.prompts))
                    output_tokens = self._random.choice(load.outputs)
                    tasks.create_task(self.generate(prompt, output_tokens))
                    await asyncio.sleep(self._random.expovariate(rate_rps))
        except* ProbeError as errors:
            raise ProbeError(str(errors.exceptions[0])) from None


@contextlib.asynccontextmanager
async def probing(
    url: str, seed: int, access: Access = OPEN
) -> AsyncIterator[tuple[Prober, ServedModel]]:
    """A prober for the first model that the server offers. Raises ProbeError."""
    timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)
    try:
        connector = http_client.connector(access.tls())
    except OSError as error:
        raise ProbeError(f"{access.certificate}: no certificate: {error}") from None
    root = url.rstrip("/").removesuffix("/v1")
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, headers=access.headers
    ) as session:
        served = await _served_model(session, root)
        yield Prober(session, root, served.name, seed), served


async def _served_model(session: aiohttp.ClientSession, root: str) -> ServedModel:
    try:
        async with session.get(f"{root}/v1/models") as answer:
            if answer.status in (401, 403):
                raise ProbeError(f"{root} asks for an API key: --api-key-env names a variable")
            model = (await answer.json())["data"][0]
        async with session.get(f"{root}/version") as answer:
            version = (await answer.json())["version"]
        async with session.get(f"{root}/metrics") as answer:
            kv_tokens = _kv_tokens(await answer.text())
        async with session.get(f"{root}/scorpio/status") as answer:
            status = await answer.json() if answer.status == 200 else {}
        limit = int(model["max_model_len"])
        engine = dict(status.get("engine", {}))
        return ServedModel(str(model["id"]), limit, str(version), kv_tokens, engine)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ProbeError(f"{root} does not answer: {type(error).__name__}: {error}") from None
    except (KeyError, IndexError, TypeError) as error:
        raise ProbeError(f"{root} is not a vLLM server: {error!r}") from None


def _kv_tokens(metrics: str) -> int | None:
    """Blocks times block size out of `vllm:cache_config_info`'s labels."""
    line = re.search(r"^vllm:cache_config_info\{.*\}", metrics, re.MULTILINE)
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line.group())) if line else {}
    try:
        return int(labels["num_gpu_blocks"]) * int(labels["block_size"])
    except (KeyError, ValueError):
        return None


async def drive(
    prober: Prober, points: Sequence[Point], budget_s: float, progress: Progress | None = None
) -> DriveResult:
    """Measure `points` in order until `budget_s` is spent."""
    start_s = time.monotonic()
    for done, point in enumerate(points):
        spent_s = time.monotonic() - start_s
        if spent_s >= budget_s:
            left_out = tuple(str(p) for p in points[done:])
            return DriveResult(done, left_out, spent_s)
        if progress is not None:
            progress(str(point), done / len(points))
        await prober.measure(point)
    return DriveResult(len(points), (), time.monotonic() - start_s)
