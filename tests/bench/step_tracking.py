"""How well does one speed factor follow the engine? On the executed steps of a twin run.

Command: python -m tests.bench.step_tracking --trace azure-conv --rows 2000:2800
Each step is predicted before it is seen. From the middle of the run on, steps take 30 % longer:
all of them, or the compute-bound prefill part alone, which one factor cannot express.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from scorpio.core.calibration import Calibration
from scorpio.core.latency import StepModel
from scorpio.core.views import FloatArray, StepSample
from scorpio.twin.compare import CompareSpec
from scorpio.twin.run import run_twin

SLOWER = 1.3
RECOVERED = 0.05  # mean error of the last STEPS steps
STEPS = 50


@contextmanager
def recorded() -> Iterator[tuple[list[StepModel], list[StepSample]]]:
    """What every Calibration in the block was made from, and saw."""
    models: list[StepModel] = []
    seen: list[StepSample] = []
    init, observe = Calibration.__init__, Calibration.observe

    def noted_init(self: Calibration, model: StepModel) -> None:
        models.append(model)
        init(self, model)

    def noted(self: Calibration, sample: StepSample) -> None:
        seen.append(sample)
        observe(self, sample)

    Calibration.__init__, Calibration.observe = noted_init, noted  # type: ignore[method-assign]
    try:
        yield models, seen
    finally:
        Calibration.__init__, Calibration.observe = init, observe  # type: ignore[method-assign]


def predict_s(model: StepModel, sample: StepSample) -> float:
    """Predicted time of an executed step."""
    return model.step_s(
        sample.num_decodes,
        sample.decode_context_tokens,
        sample.prefill_tokens,
        sample.prefill_sq_tokens,
        sample.prefill_prefix_products,
    )


def slowed(
    model: StepModel, samples: Sequence[StepSample], part: str, first: int
) -> list[StepSample]:
    """The same steps, slower from number `first` on; part: all, prefill or none."""
    found = list(samples[:first])
    for sample in samples[first:]:
        share = {"all": 1.0, "none": 0.0}.get(part)
        if share is None:
            over = max(sample.prefill_tokens + sample.num_decodes - model.knee_tokens, 0.0)
            share = model.high_token_s * over / predict_s(model, sample)
        factor = 1.0 + (SLOWER - 1.0) * share
        found.append(replace(sample, duration_s=sample.duration_s * factor))
    return found


def follow(
    model: StepModel, samples: Sequence[StepSample], learn: bool
) -> tuple[FloatArray, FloatArray]:
    """(time of each step's end, relative error of its prediction)."""
    calibration, now_s, rows = Calibration(model), 0.0, []
    for sample in samples:
        now_s += sample.duration_s
        rows.append((now_s, predict_s(calibration.model(), sample) / sample.duration_s - 1.0))
        if learn:
            calibration.observe(sample)
    times, errors = np.array(rows).T
    return times, errors


def recovered_s(times: FloatArray, errors: FloatArray) -> float:
    """Seconds until the mean error is small and stays so; inf = it does not."""
    mean = np.convolve(errors, np.ones(STEPS) / STEPS, "valid")
    off = np.flatnonzero(np.abs(mean) > RECOVERED)
    last = int(off[-1]) + STEPS if len(off) else 0
    return float(times[last] - times[0]) if last < len(times) else float("inf")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", default="azure-conv-synth")
    parser.add_argument("--rows", default="0:800")
    parser.add_argument("--rate-scale", type=float, default=1.2)
    args = parser.parse_args()
    spec = CompareSpec(
        gpu="a100-llama-3.1-8b", trace=args.trace, mix="six", rate_scales=(args.rate_scale,),
        policies=("scorpio",), seeds=(0,), out_dir=Path(), rows=args.rows,
    )  # fmt: skip
    with recorded() as (models, seen):
        run_twin(spec.config(), spec.workloads()[0].load(), "scorpio", 0)
    table = Table(title=f"step time, predicted one ahead ({len(seen)} steps)")
    for name in ("30 % slower", "profile", "MAPE", "recovered after, s"):
        table.add_column(name, justify="right")
    ends_s = np.cumsum([sample.duration_s for sample in seen])
    middle = int(np.searchsorted(ends_s, ends_s[-1] / 2))
    for part in ("none", "all", "prefill"):
        samples = slowed(models[0], seen, part, middle)
        for name, learn in (("as it is", False), ("with the factor", True)):
            times, errors = (column[middle:] for column in follow(models[0], samples, learn))
            back_s = f"{recovered_s(times, errors):.1f}" if part != "none" else "-"
            table.add_row(part, name, f"{np.abs(errors).mean():.2%}", back_s)
    Console().print(table)


if __name__ == "__main__":
    main()
