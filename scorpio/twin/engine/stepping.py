"""How do scheduling and outputs take turns? `EngineCore.step()` and `step_with_batch_queue()`.

vllm/v1/engine/core.py (0.32), followed line by line: depth 1 waits for each output; depth 2
schedules step k+1 while step k runs, so a request that arrives during step k is first seen by
step k+2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from scorpio.engine.virtual.requests import ModelRunnerOutput, SchedulerOutput


@dataclass(slots=True)
class InFlight:
    """A step that was scheduled, and when its output comes."""

    step: SchedulerOutput
    output: ModelRunnerOutput
    ready_s: float


def engine_step(
    in_flight: deque[InFlight],
    depth: int,
    has_requests: Callable[[], bool],
    schedule: Callable[[], InFlight],
    receive: Callable[[InFlight], None],
) -> bool:
    """One turn of the loop. True: the model has something to compute."""
    executed = False
    if has_requests():
        flight = schedule()
        executed = flight.step.total_num_scheduled_tokens > 0
        in_flight.append(flight)
        if len(in_flight) < depth and (executed or has_requests()):
            return executed
    receive(in_flight.popleft())
    return executed
