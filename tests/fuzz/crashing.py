"""A worker whose model fails when a client says so: `--worker-cls tests.fuzz.crashing.Crashing`."""

from __future__ import annotations

from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker

CRASH = "crash_now"  # in `vllm_xargs`


class Crashing(CPUWorker):
    """vLLM's own, but for one word."""

    def execute_model(self, scheduler_output: Any) -> Any:
        for new in scheduler_output.scheduled_new_reqs:
            if CRASH in ((new.sampling_params and new.sampling_params.extra_args) or {}):
                raise RuntimeError("injected")
        return super().execute_model(scheduler_output)
