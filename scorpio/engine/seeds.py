"""May a request carry a seed? Not on vLLM's CPU build, where one of them ends the engine.

A prompt that is computed in more than one step, at first or after a preemption, makes the model
runner wind the request's random generator back; PyTorch's CPU generator cannot, and EngineCore dies
with all requests in it. Any prompt may come into that state, so there a request loses its seed:
it is sampled like one without. Greedy requests draw nothing and keep theirs.
"""

from __future__ import annotations

from typing import Any

from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingType

logger = init_logger("vllm.scorpio")


class SeedGuard:
    """Takes seeds off where they are dangerous. `dropped`: how many so far."""

    def __init__(self, needed: bool | None = None) -> None:
        self._needed = bool(current_platform.is_cpu()) if needed is None else needed
        self.dropped = 0

    def take(self, request: Any) -> None:
        """Make one arriving request harmless."""
        params = request.sampling_params
        if not self._needed or params is None:
            return
        if params.sampling_type != SamplingType.RANDOM_SEED:
            return
        params.seed = None
        self.dropped += 1
        if self.dropped == 1:
            logger.warning(
                "`seed` is ignored: on the CPU build it could end the engine (logged once;"
                " counted as seeds_dropped in /scorpio/status)"
            )
