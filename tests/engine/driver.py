"""Drives the real vLLM scheduler step by step, in virtual time, for the adapter's tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from scorpio.core.plan import StepPlan
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.engine.scheduler import ScorpioScheduler
from scorpio.engine.virtual.build import EngineSpec, build_scheduler
from scorpio.engine.virtual.requests import (
    STOP_TOKEN,
    TOKEN_STRIDE,
    AsyncScheduler,
    EngineCoreOutput,
    ModelRunnerOutput,
    Request,
    RequestFactory,
    SchedulerOutput,
)
from scorpio.twin.engine.runner import FakeRunner

STEP_S = 0.01


class VirtualScheduler(ScorpioScheduler):
    """Time stands still until a test moves it."""

    virtual_s = 0.0
    cost_s = 0.0  # of planning a step

    def planning_s(self) -> float:
        return self.cost_s

    def now_s(self) -> float:
        return self.virtual_s

    def wall_s(self) -> float:
        return self.virtual_s


class Scripted:
    """A policy whose plan is whatever the test says; remembers what it saw."""

    name = "scripted"
    passive = False

    def __init__(self, plan: StepPlan | Exception | None = None) -> None:
        self.answer = plan
        self.samples: list[StepSample] = []
        self.seen: Snapshot | None = None

    def queue_key(self, view: RequestView) -> float:
        return view.deadline_s

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        self.seen = snapshot
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or StepPlan()

    def observe(self, sample: StepSample) -> None:
        self.samples.append(sample)


class Engine:
    """add / step / abort around one scheduler; `outputs` collects everything clients would get."""

    def __init__(
        self,
        spec: EngineSpec | None = None,
        scorpio: Mapping[str, Any] | None = None,
        cls: type[AsyncScheduler] = VirtualScheduler,
        kv_transfer: Mapping[str, Any] | None = None,
    ) -> None:
        self.spec = spec or EngineSpec(pipeline_depth=1)
        settings = scorpio or {"policy": "fcfs"}
        self.scheduler = build_scheduler(self.spec, cls, settings, kv_transfer)
        self.factory = RequestFactory(self.spec)
        self.runner = FakeRunner()
        self.outputs: dict[str, list[EngineCoreOutput]] = {}
        self.in_flight: deque[tuple[SchedulerOutput, ModelRunnerOutput]] = deque()
        self.number = 0

    @property
    def scorpio(self) -> VirtualScheduler:
        assert isinstance(self.scheduler, VirtualScheduler)
        return self.scheduler

    def add(self, request_id: str, *sizes: int, **what: Any) -> None:
        self.scheduler.add_request(self.request(request_id, *sizes, **what))

    def request(
        self,
        request_id: str,
        prompt: int = 32,
        output: int = 4,
        adapter: int = 0,
        *,
        more: Mapping[str, Any] | None = None,
        **xargs: Any,
    ) -> Request:
        """One that is still to be added. more: `RequestFactory.make` takes."""
        self.number += 1
        self.outputs[request_id] = []
        now_s = getattr(self.scheduler, "virtual_s", 0.0)
        made = {"adapter": adapter, **(more or {})}
        request = self.factory.make(request_id, now_s, prompt, output, xargs, **made)
        self.runner.expect(request_id, self.number, prompt, output)
        return request

    def step(self, seconds: float = STEP_S) -> SchedulerOutput:
        """Schedule one step and, at the pipeline's depth, process the oldest output."""
        scheduled = self.scheduler.schedule()
        _, answer = self.runner.execute(scheduled)
        self.in_flight.append((scheduled, answer))
        if isinstance(self.scheduler, VirtualScheduler):
            self.scheduler.virtual_s += seconds
        if len(self.in_flight) >= self.spec.pipeline_depth or not scheduled.num_scheduled_tokens:
            self.deliver()
        return scheduled

    def deliver(self) -> None:
        step, answer = self.in_flight.popleft()
        for batch in self.scheduler.update_from_output(step, answer).values():
            for output in batch.outputs:
                self.outputs[output.request_id].append(output)

    def drain(self, limit: int = 10_000) -> int:
        """Run until nothing is left; returns the number of steps."""
        steps = 0
        while self.scheduler.has_requests() or self.in_flight:
            if not self.scheduler.has_requests():
                self.deliver()
                continue
            self.step()
            steps += 1
            assert steps < limit, "the engine does not drain"
        return steps

    def serve_crowd(
        self, random_: Random, requests: int, most_tokens: tuple[int, int], slos: Sequence[Any]
    ) -> None:
        """So many requests of random sizes and SLOs, with steps between them; each gets all of its
        tokens, and none fails the policy. most_tokens: of a prompt, of an answer."""
        wanted: dict[str, list[int]] = {}
        for number in range(1, requests + 1):
            output = random_.randrange(1, most_tokens[1])
            slo = random_.choice(slos)
            prompt = random_.randrange(1, most_tokens[0])
            self.add(f"r{number}", prompt, output, **slo, slo_on_miss="wait")
            wanted[f"r{number}"] = expected(number, output)
            for _ in range(random_.randrange(4)):
                self.step(random_.choice((0.002, 0.03)))
        self.drain()
        self.assert_drained()
        assert {name: self.tokens(name) for name in wanted} == wanted
        assert self.scorpio.telemetry.fallbacks == 0

    def tokens(self, request_id: str) -> list[int]:
        return [token for out in self.outputs[request_id] for token in out.new_token_ids]

    def assert_drained(self) -> None:
        scheduler = self.scheduler
        assert not scheduler.requests
        assert not scheduler.running
        assert len(scheduler.waiting) == 0
        pool = scheduler.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() == self.spec.num_blocks - 1
        if isinstance(scheduler, VirtualScheduler):
            assert not scheduler.tracked_ids
            assert len(scheduler.waiting.table) == 0


def expected(number: int, output: int) -> list[int]:
    """The tokens of request `number`, the last one being where the model stops."""
    return [number * TOKEN_STRIDE + j for j in range(output - 1)] + [STOP_TOKEN]


def until_preempted(engine: Engine) -> None:
    """Steps, until one is."""
    for _ in range(200):
        engine.step()
        if any(r.num_preemptions for r in engine.scheduler.requests.values()):
            return
    raise AssertionError("none was preempted")
