"""An engine in which time passes as a step model says, for the work that was really done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.wire import RejectionNotice, decode_rejection
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import (
    AsyncScheduler,
    ModelRunnerOutput,
    SchedulerOutput,
)
from tests.engine.driver import Engine, VirtualScheduler

STEP = StepModel(0.010, 0.0, 1e-4, 0.0, 0.0, 0.0, 1e-7)
SPEC = EngineSpec(pipeline_depth=1, max_num_batched_tokens=2048, num_blocks=4000,
                  max_model_len=16_384, max_num_seqs=64)  # fmt: skip
IDLE_NAP_S = 0.001


def profile(step: StepModel) -> LatencyProfile:
    return LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "test")


def settings(believed: StepModel = STEP, **more: Any) -> dict[str, Any]:
    return {"policy": "scorpio", "latency": profile(believed).to_dict(), **more}


class Timed(Engine):
    """`true`: how fast the engine is; what the policy believes is in `scorpio`."""

    def __init__(
        self,
        true: StepModel = STEP,
        scorpio: Mapping[str, Any] | None = None,
        cls: type[AsyncScheduler] = VirtualScheduler,
        spec: EngineSpec = SPEC,
    ) -> None:
        super().__init__(spec, scorpio or settings(), cls)
        self.true = true
        self.time_s = 0.0
        self.born_s: dict[str, float] = {}
        self.first_s: dict[str, float] = {}
        self.last_s: dict[str, float] = {}

    def add(self, request_id: str, *args: Any, **kwargs: Any) -> None:
        self.born_s[request_id] = self.time_s
        super().add(request_id, *args, **kwargs)

    def step(self, seconds: float = 0.0) -> SchedulerOutput:
        """One step at depth 1; `seconds` on top of what it takes (a stall)."""
        scheduled = self.scheduler.schedule()
        work, answer = self.runner.execute(scheduled)
        busy = scheduled.total_num_scheduled_tokens > 0
        self.wait(seconds + (work.step_s(self.true) if busy else IDLE_NAP_S))
        self.received(scheduled, answer)
        return scheduled

    def received(self, scheduled: SchedulerOutput, answer: ModelRunnerOutput) -> None:
        """The output of a step."""
        for batch in self.scheduler.update_from_output(scheduled, answer).values():
            for output in batch.outputs:
                if output.new_token_ids:
                    self.first_s.setdefault(output.request_id, self.time_s)
                    self.last_s[output.request_id] = self.time_s
                self.outputs[output.request_id].append(output)

    def wait(self, seconds: float) -> None:
        """Time passes, the engine does nothing."""
        self.time_s += seconds
        if isinstance(self.scheduler, VirtualScheduler):
            self.scheduler.virtual_s = self.time_s

    def run_until(self, time_s: float) -> None:
        """Serve until then, or idle."""
        while self.time_s < time_s:
            if self.scheduler.has_requests():
                self.step()
            else:
                self.wait(min(IDLE_NAP_S, time_s - self.time_s))

    def finished(self, request_id: str) -> bool:
        out = self.outputs[request_id]
        return bool(out) and out[-1].finish_reason is not None

    def ttft_s(self, request_id: str) -> float:
        return self.first_s[request_id] - self.born_s[request_id]

    def refusal(self, request_id: str) -> RejectionNotice | None:
        """None: not refused (yet)."""
        out = self.outputs[request_id]
        return decode_rejection(out[-1].stop_reason) if out else None
