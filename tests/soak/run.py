"""Does the server stay as it is, for hours? Load at a fixed rate, looked at every ten seconds.

Open loop with a bound: requests are sent when their time has come, and at most MAX_IN_FLIGHT are
under way (what had to wait for that is counted). Every few minutes the load stops until all answers
are there: then no KV block may be held and no request be left.
"""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from scorpio.http_client import connector
from scorpio.live.control.scrape import scrape
from scorpio.live.host.process import ServerFailedError, ServerProcess
from tests.soak.client import ANSWER_TIMEOUT_S, Ended, How, send
from tests.soak.mix import GRAMMAR_EVERY, soak_request
from tests.soak.processes import held_by_tree
from tests.soak.quiet import KV_USED, RUNNING, WAITING, look_when_quiet
from tests.soak.record import Sample, SoakRecord

MAX_IN_FLIGHT = 256
MAX_ERRORS_KEPT = 40
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Periods:
    """How often is looked at what."""

    sample_s: float = 10.0
    quiet_s: float = 300.0


@dataclass(slots=True)
class _Window:
    """What ended since the last sample."""

    ended: Counter[str] = field(default_factory=Counter)
    first_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)


class Soak:
    """One run against one server; `record` is what has become of it so far."""

    def __init__(
        self, url: str, process: ServerProcess, model: str, record: SoakRecord, periods: Periods
    ) -> None:
        self.record = record
        self._url, self._process, self._model, self._periods = url, process, model, periods
        self._window = _Window()
        self._number = 0
        self._zero_s = 0.0

    async def run(self, path: Path, say: Say) -> None:
        """Load, looks and record until the time is up or the server breaks."""
        self._zero_s = asyncio.get_running_loop().time()
        end_s = 60.0 * self.record.minutes
        try:
            while self._t_s() < end_s:
                async with _session() as session:
                    until_s = min(self._t_s() + self._periods.quiet_s, end_s)
                    await self._load_and_samples(session, until_s)
                async with _session() as session:  # of the load no connection is left
                    await self._look_when_quiet(session)
                self.record.write(path)
                say(self._line())
        except ServerFailedError as error:
            self.record.broke = str(error)
        self.record.status = await asyncio.to_thread(self._status)
        self.record.write(path)

    async def _load_and_samples(self, session: aiohttp.ClientSession, until_s: float) -> None:
        sampler = asyncio.create_task(self._sample())
        try:
            async with asyncio.TaskGroup() as requests:
                await self._send_until(session, until_s, requests, sampler)
        finally:
            sampler.cancel()
            await asyncio.wait([sampler])
        if not sampler.cancelled() and (error := sampler.exception()) is not None:
            raise error

    async def _send_until(
        self,
        session: aiohttp.ClientSession,
        until_s: float,
        requests: asyncio.TaskGroup,
        sampler: asyncio.Task[None],
    ) -> None:
        room = asyncio.Semaphore(MAX_IN_FLIGHT)
        due_s = self._t_s()
        while (now_s := self._t_s()) < until_s and not sampler.done():
            if due_s > now_s:
                await asyncio.sleep(min(due_s, until_s) - now_s)
                continue
            self.record.held_back += room.locked()
            await room.acquire()
            requests.create_task(self._one(session, self._number, room))
            self._number += 1
            gap = random.Random(f"gap {self.record.seed}:{self._number}")
            due_s += gap.expovariate(self.record.rate_rps)

    async def _one(
        self, session: aiohttp.ClientSession, number: int, room: asyncio.Semaphore
    ) -> None:
        self.record.sent += 1
        self.record.grammar += number % GRAMMAR_EVERY == 7
        try:
            request = soak_request(self.record.seed, number, self._model)
            self._note(await send(session, self._url, request))
        finally:
            room.release()

    def _note(self, ended: Ended) -> None:
        name = ended.how.value
        self.record.ended[name] = self.record.ended.get(name, 0) + 1
        self._window.ended[name] += 1
        if ended.how is How.FINISHED:
            self._window.end_s.append(ended.end_s)
            if ended.first_s is not None:
                self._window.first_s.append(ended.first_s)
        elif ended.how is How.FAILED and len(self.record.errors) < MAX_ERRORS_KEPT:
            self.record.errors.append(f"{self._t_s():.0f} s: {ended.error}")

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(self._periods.sample_s)
            self._process.check_alive()
            window, self._window = self._window, _Window()
            now = await asyncio.to_thread(scrape, self._url)
            self.record.samples.append(
                Sample(
                    t_s=round(self._t_s(), 3),
                    processes=held_by_tree(self._process.pid),
                    running=int(now.get(RUNNING, 0)),
                    waiting=int(now.get(WAITING, 0)),
                    kv_used_fraction=now.get(KV_USED, 0.0),
                    ended=dict(window.ended),
                    first_p50_s=_quantile(window.first_s, 0.5),
                    first_p95_s=_quantile(window.first_s, 0.95),
                    end_p50_s=_quantile(window.end_s, 0.5),
                    end_p95_s=_quantile(window.end_s, 0.95),
                )
            )

    async def _look_when_quiet(self, session: aiohttp.ClientSession) -> None:
        def failed(error: str) -> None:
            self._process.check_alive()
            self._note(Ended(How.FAILED, error=f"quiet look: {error}"))

        look = await look_when_quiet(session, self._url, self._model, failed)
        held = held_by_tree(self._process.pid)
        self.record.quiet.append(replace(look, t_s=round(self._t_s(), 3), processes=held))

    def _status(self) -> dict[str, object]:
        try:
            with urllib.request.urlopen(f"{self._url}/scorpio/status", timeout=10.0) as answer:
                return dict(json.load(answer))
        except (OSError, ValueError) as error:
            return {"error": str(error)}

    def _line(self) -> str:
        ended = ", ".join(f"{count} {how}" for how, count in sorted(self.record.ended.items()))
        last = self.record.samples[-1].processes if self.record.samples else {}
        rss = ", ".join(f"{name} {held.rss_mib:.0f} MiB" for name, held in last.items())
        return f"{self._t_s() / 60.0:.1f} min, {self.record.sent} sent: {ended}; {rss}"

    def _t_s(self) -> float:
        return asyncio.get_running_loop().time() - self._zero_s


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector(), timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    )


def _quantile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 4)
