"""How well does the learned speed follow the engine? On the executed steps of a twin run.

Command: python -m scorpio.studies.step_tracking --trace azure-conv --rows 2000:2800
Each step is predicted before it is seen. From the middle of the run on, terms of the step model
cost more or less than the profile says: all of them, or some alone. Errors are of that half.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.learn.speed import EngineSpeed
from scorpio.core.snapshot import StepSample
from scorpio.studies.compare import CompareSpec
from scorpio.twin.run import run_twin

SLOWER = 1.3
TERMS = [name for name in StepModel.__slots__ if name != "knee_tokens"]
CHANGES: Mapping[str, Mapping[str, float]] = {
    "nothing": {},
    "everything x 1.3": dict.fromkeys(TERMS, SLOWER),
    "prefill x 1.3": {"high_token_s": SLOWER},  # the compute-bound part of a step
    "context x 2": {"context_token_s": 2.0},
    "base x 2, context x 0.5": {"base_s": 2.0, "context_token_s": 0.5},
}
RECOVERED = 0.05  # mean error of the last STEPS steps
STEPS = 50


@contextmanager
def recorded() -> Iterator[tuple[list[StepModel], list[StepSample]]]:
    """What every EngineSpeed in the block was made from, and saw."""
    models: list[StepModel] = []
    seen: list[StepSample] = []
    init, observe = EngineSpeed.__init__, EngineSpeed.observe

    def noted_init(self: EngineSpeed, model: StepModel) -> None:
        models.append(model)
        init(self, model)

    def noted(self: EngineSpeed, sample: StepSample) -> None:
        seen.append(sample)
        observe(self, sample)

    EngineSpeed.__init__, EngineSpeed.observe = noted_init, noted  # type: ignore[method-assign]
    try:
        yield models, seen
    finally:
        EngineSpeed.__init__, EngineSpeed.observe = init, observe  # type: ignore[method-assign]


def changed(
    model: StepModel, samples: Sequence[StepSample], factors: Mapping[str, float], first: int
) -> list[StepSample]:
    """The same steps; from number `first` on, these coefficients are so many times as large."""
    now = replace(model, **{name: getattr(model, name) * f for name, f in factors.items()})
    return [
        *samples[:first],
        *(
            replace(s, duration_s=s.duration_s * now.sample_s(s) / model.sample_s(s))
            for s in samples[first:]
        ),
    ]


def follow(
    model: StepModel, samples: Sequence[StepSample], learn: bool
) -> tuple[FloatArray, FloatArray]:
    """(time of each step's end, relative error of its prediction)."""
    steps = tracked(model, samples, learn)
    return steps.end_s, steps.error


@dataclass(frozen=True, slots=True)
class Tracked:
    """Steps in order, [n] each; `error` of the prediction, `margin` told before the step."""

    end_s: FloatArray
    error: FloatArray
    margin: FloatArray
    above: BoolArray  # the knee

    def after(self, first: int) -> Tracked:
        """Without the steps before number `first`."""
        return Tracked(
            self.end_s[first:], self.error[first:], self.margin[first:], self.above[first:]
        )

    def coverage(self) -> str:
        """Below and above the knee: % of steps within the margin, and the mean margin."""
        within = (1.0 + self.error) * self.margin >= 1.0
        return " / ".join(
            f"{100.0 * within[rows].mean():.1f} ({self.margin[rows].mean():.3f})"
            for rows in (~self.above, self.above)
        )


def tracked(model: StepModel, samples: Sequence[StepSample], learn: bool) -> Tracked:
    """Predict each step before it is seen."""
    speed, now_s, rows = EngineSpeed(model), 0.0, []
    for sample in samples:
        now_s += sample.duration_s
        tokens = sample.prefill_tokens + sample.num_decodes
        error = speed.model().sample_s(sample) / sample.duration_s - 1.0
        rows.append((now_s, error, speed.margin(tokens), tokens > model.knee_tokens))
        if learn:
            speed.observe(sample)
    end_s, errors, margins, above = np.array(rows).T
    return Tracked(end_s, errors, margins, above > 0.0)


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
        run_twin(spec.config(), spec.workloads()[0].requests(), "scorpio", 0)
    Console().print(tracking_table(models[0], seen))


def tracking_table(model: StepModel, seen: Sequence[StepSample]) -> Table:
    """A line for each change, without and with tracking."""
    table = Table(title=f"step time, predicted one ahead ({len(seen)} steps)")
    columns = ("changed", "profile", "MAPE", "recovered after, s", "within margin, % (margin)")
    for name in columns:
        table.add_column(name, justify="right")
    ends_s = np.cumsum([sample.duration_s for sample in seen])
    middle = int(np.searchsorted(ends_s, ends_s[-1] / 2))
    for change, factors in CHANGES.items():
        samples = changed(model, seen, factors, middle)
        for name, learn in (("as it is", False), ("tracked", True)):
            steps = tracked(model, samples, learn).after(middle)
            back_s = f"{recovered_s(steps.end_s, steps.error):.1f}" if factors else "-"
            mape = f"{np.abs(steps.error).mean():.2%}"
            table.add_row(change, name, mape, back_s, steps.coverage() if learn else "-")
    return table


if __name__ == "__main__":
    main()
