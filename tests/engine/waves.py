"""Ranks of a mixture-of-experts model: two real schedulers in two loops, with vLLM's wave rules.

vllm/v1/engine/core.py (0.32), DPEngineCoreProc.run_busy_loop, followed line by line. Each loop runs
until it needs the others (a forward pass, the question whether all have finished) or rests. A step
is as long as the slowest rank's.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from scorpio.core.latency import StepModel
from tests.engine.driver import VirtualScheduler
from tests.engine.timed import SPEC, STEP, Timed

SYNC_EVERY = 32  # vLLM's `dp_sync_interval`
DUMMY_S = 0.008  # one token, no KV
MOST_TURNS = 200_000


class RanksStuckError(RuntimeError):
    """Ranks wait for one that rests: on a real machine for ever, or until its next request."""


class RankScheduler(VirtualScheduler):
    """Of the first of two ranks, whose vLLM knows that there are two."""

    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        vllm_config.parallel_config = copy(vllm_config.parallel_config)
        vllm_config.parallel_config.data_parallel_size = 2
        super().__init__(vllm_config, *args, **kwargs)


Turn = tuple[Literal["forward", "sync", "rest"], float]


@dataclass
class Rank:
    """One engine and its loop. told: START_DP_WAVE has come. mailbox: requests, not yet added."""

    engine: Timed
    running: bool = False
    told: bool = False
    steps: int = 0
    mailbox: list[Any] = field(default_factory=list)
    empty_steps: int = 0
    dummies: int = 0


class Waves:
    """add / run over two ranks. true: how long a rank's own work takes."""

    def __init__(
        self, scorpio: Mapping[str, Any], true: StepModel = STEP, cls: Any = RankScheduler
    ) -> None:
        self.ranks = [Rank(Timed(true, scorpio, cls, SPEC)) for _ in range(2)]
        self.now_s, self.waves, self.started = 0.0, 0, False
        self._due: list[tuple[float, int, str, tuple[int, ...], dict[str, Any]]] = []
        self._loops = [self._loop(i, rank) for i, rank in enumerate(self.ranks)]
        self._turns: list[Turn] = [("rest", 0.0)] * 2
        for loop in self._loops:
            next(loop)

    def send(self, at_s: float, to: int, name: str, *sizes: int, **more: Any) -> None:
        """A request that arrives then; in the order of time."""
        self._due.append((at_s, to, name, sizes, more))

    def run(self) -> None:
        """Until all rest and nothing is to come."""
        for _ in range(MOST_TURNS):
            self._arrive()
            kinds = {kind for kind, _ in self._turns}
            if kinds == {"forward"}:
                self._pass(max(seconds for _, seconds in self._turns))
                self._turns = [loop.send(0.0) for loop in self._loops]
            elif kinds == {"sync"}:
                unfinished = any(vote for _, vote in self._turns)
                self._turns = [loop.send(float(unfinished)) for loop in self._loops]
            elif any(self._has_mail(rank) for rank in self._resting()):
                self._wake()
            elif kinds != {"rest"}:
                raise RanksStuckError(f"at {self.now_s:.3f} s: {self._turns}")
            elif self._due:
                self._pass(self._due[0][0] - self.now_s)
            else:
                return
        raise AssertionError("the ranks do not come to rest")

    def _resting(self) -> list[Rank]:
        turns = zip(self.ranks, self._turns, strict=True)
        return [rank for rank, (kind, _) in turns if kind == "rest"]

    @staticmethod
    def _has_mail(rank: Rank) -> bool:
        return rank.told or bool(rank.mailbox)

    def _wake(self) -> None:
        for i, rank in enumerate(self.ranks):
            if self._turns[i][0] == "rest" and self._has_mail(rank):
                self._turns[i] = self._loops[i].send(0.0)

    def _pass(self, seconds: float) -> None:
        self.now_s += max(seconds, 0.0)
        for rank in self.ranks:
            rank.engine.wait(max(self.now_s - rank.engine.time_s, 0.0))

    def _arrive(self) -> None:
        """The first request of a wave: its client tells the coordinator, and that all others."""
        while self._due and self._due[0][0] <= self.now_s:
            _, to, name, sizes, more = self._due.pop(0)
            self.ranks[to].mailbox.append((self.waves, name, sizes, more))
            if not self.started:
                self.started = True
                self._tell_others(self.ranks[to])

    def _tell_others(self, rank: Rank) -> None:
        for other in self.ranks:
            other.told = other.told or other is not rank

    def _take(self, rank: Rank) -> None:
        if rank.told:
            rank.running, rank.told = True, False
        for wave, name, sizes, more in rank.mailbox:
            rank.engine.add(name, *sizes, **more)
            if wave < self.waves and not rank.running:  # sent to a wave that has ended meanwhile
                rank.running = self.started = True
                self._tell_others(rank)
        rank.mailbox.clear()

    def _loop(self, index: int, rank: Rank) -> Generator[Turn, float, None]:
        scheduler = rank.engine.scheduler
        while True:
            while not (rank.running or scheduler.has_requests()):
                yield "rest", 0.0
                self._take(rank)
            self._take(rank)
            executed = False
            if scheduler.has_requests():
                executed = yield from self._step(rank)
            unfinished = scheduler.has_unfinished_requests()
            if not executed:
                if not unfinished and not rank.running:
                    continue
                rank.dummies += 1
                yield "forward", DUMMY_S
            rank.steps += 1
            rank.running = True
            if rank.steps == 1 or rank.steps % SYNC_EVERY == 0:
                rank.running = bool((yield "sync", float(unfinished)))
            if not rank.running:
                rank.steps = 0
                if index == 0:
                    self.waves, self.started = self.waves + 1, False

    def _step(self, rank: Rank) -> Generator[Turn, float, bool]:
        engine = rank.engine
        step = engine.scheduler.schedule()
        work, answer = engine.runner.execute(step)
        executed = step.total_num_scheduled_tokens > 0
        if executed:
            yield "forward", work.step_s(engine.true)
        else:
            rank.empty_steps += 1
        engine.received(step, answer)
        return executed
