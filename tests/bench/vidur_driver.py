"""Runs in Vidur's own environment: serve a trace with a given step-time model, say how it went.

Started by `tests.bench.beside_vidur`. Vidur's forests need a table of attention timings per GPU;
here our twin's formula replaces them, so that only the two simulators differ.

argv: the file of step coefficients (JSON), the file to write, then Vidur's own arguments.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


class Seconds:
    """Vidur's ExecutionTime with one part: the whole step."""

    def __init__(self, seconds: float) -> None:
        self.model_time = self.total_time = seconds

    def __getattr__(self, part: str) -> float:
        return 0.0


class Formula:
    """Stands where Vidur's execution time predictors do."""

    coefficients: dict[str, float]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def get_execution_time(self, batch: Any, _stage: int) -> Seconds:
        """Time of one batch; see scorpio.core.latency.StepModel."""
        k = self.coefficients
        decodes = context = prefill = squares = products = 0
        for request, tokens in zip(batch.requests, batch.num_tokens, strict=True):
            if request.is_prefill_complete:
                decodes += 1
                context += request.num_processed_tokens
            else:
                prefill += tokens
                squares += tokens * tokens
                products += tokens * request.num_processed_tokens
        low = min(prefill + decodes, k["knee_tokens"])
        return Seconds(
            k["base_s"]
            + k["low_token_s"] * low
            + k["high_token_s"] * (prefill + decodes - low)
            + k["prefill_sq_s"] * squares
            + k["prefill_prefix_s"] * products
            + k["context_token_s"] * context
        )


def main() -> None:
    """Simulate and report."""
    Formula.coefficients = json.loads(Path(sys.argv.pop(1)).read_text())
    out = Path(sys.argv.pop(1))
    registry = import_module("vidur.execution_time_predictor.execution_time_predictor_registry")
    kind = import_module("vidur.types").ExecutionTimePredictorType.RANDOM_FORREST
    registry.ExecutionTimePredictorRegistry._registry[kind] = Formula
    config = import_module("vidur.config").SimulationConfig.create_from_cli_args()
    simulator = import_module("vidur.simulator").Simulator(config)
    requests = [entry[-1]._request for entry in simulator._event_queue]
    started = time.process_time()
    simulator.run()
    cpu_s = time.process_time() - started
    found = {
        "speed": simulator._time / cpu_s,
        "ttft_s": [r.prefill_completed_at - r.arrived_at for r in requests],
        "tpot_s": [
            (r.completed_at - r.prefill_completed_at) / (r.num_decode_tokens - 1)
            for r in requests
            if r.num_decode_tokens > 1
        ],
    }
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
