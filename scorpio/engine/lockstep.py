"""What does it mean that ranks step together? Data-parallel engines of a mixture-of-experts model.

Each forward pass of one is a forward pass of all (a rank without work computes a dummy batch), and
they go on, a wave of steps, until none has an unfinished request. A request that reaches a resting
engine starts a wave: all the others are told to begin, and wait in their first step for this one.
It must come, also when that request was refused before it had a step, or they wait for ever.
(vllm/v1/engine/core.py, DPEngineCoreProc; the coordinator's START_DP_WAVE leaves this engine out.)
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput

from scorpio.engine.refusals import Refusals


class LockstepScheduler(AsyncScheduler):
    """To the other ranks a refused request is unfinished until the turn of the loop in which it is
    answered is over. Where ranks do not step together this is vLLM's own class."""

    _refusals: Refusals
    _answered = False

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        self._answered = False
        return super().schedule(throttle_prefills)

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        self._answered = self._refusals.unanswered  # they go out with these outputs
        outputs: dict[int, EngineCoreOutputs] = super().update_from_output(
            scheduler_output, model_runner_output
        )
        return outputs

    def has_unfinished_requests(self) -> bool:
        refused = self._answered or self._refusals.unanswered
        return super().has_unfinished_requests() or (refused and steps_together(self))


def steps_together(scheduler: Any) -> bool:
    """A rank of a dense model does not see the others: vLLM makes it an engine of its own, of
    size 1 (`reconfigure_for_independent_dp_rank`)."""
    return bool(scheduler.parallel_config.data_parallel_size > 1)
