"""Does the learned speed follow an engine that changes? On the executed steps of a twin run.

Each step is predicted before it is seen. From the middle of the run on, terms of the step model
cost more or less than the profile says: all of them, or some alone. Errors are of that half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.latency import StepModel
from scorpio.core.snapshot import StepSample
from scorpio.core.speed.follow import EngineSpeed
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import (
    OURS,
    Cells,
    Found,
    Page,
    Rows,
    Study,
    engine,
    reference,
    table,
)
from scorpio.twin.run import run_twin
from workloads.load import LoadKey

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
            if rows.any()
            else "–"
            for rows in (~self.above, self.above)
        )


def tracked(model: StepModel, samples: Sequence[StepSample], learn: bool) -> Tracked:
    """Predict each step before it is seen."""
    speed, now_s, rows = EngineSpeed(model), 0.0, []
    for sample in samples:
        now_s += sample.duration_s
        tokens = sample.tokens
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


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one run of `scorpio`, changed in each way, without and with learning."""

    load: LoadKey

    @property
    def label(self) -> str:
        """Of all changes: the run is the same."""
        return f"step times followed on {self.load.label}"

    def run(self) -> Rows:
        """A row for each change."""
        with recorded() as (models, seen):
            run_twin(engine(), self.load.requests(), OURS, self.load.seed)
        return tracking(models[-1], seen)  # the first was made before the profile was known


def tracking(model: StepModel, seen: Sequence[StepSample]) -> Rows:
    """A row for each change, without and with learning."""
    ends_s = np.cumsum([sample.duration_s for sample in seen])
    middle = int(np.searchsorted(ends_s, ends_s[-1] / 2))
    rows: Rows = []
    for change, factors in CHANGES.items():
        samples = changed(model, seen, factors, middle)
        for learn in (False, True):
            steps = tracked(model, samples, learn).after(middle)
            back_s = recovered_s(steps.end_s, steps.error) if factors else None
            row = {
                "changed": change,
                "learned": learn,
                "error": round(float(100.0 * np.abs(steps.error).mean()), 2),
                "back_s": None if back_s is None or np.isinf(back_s) else round(back_s, 1),
                "covered": steps.coverage() if learn else "",
                "steps": len(seen),
            }
            rows.append(row)
    return rows


def _cells(quick: bool) -> Cells:
    return [Steps(reference(1.2, 0, quick))]


def _rows(found: Found) -> Rows:
    return [row for _, made in found for row in made]


def _page(rows: Rows) -> Page:
    heads = ["changed", "speed", "error %", f"below {100 * RECOVERED:g} % after, s",
             "% within the margin (mean margin)"]  # fmt: skip
    lines = [
        [row["changed"], "followed" if row["learned"] else "as profiled", f"{row['error']:.2f}",
         "–" if row["back_s"] is None else f"{row['back_s']:g}", row["covered"] or "–"]
        for row in rows
    ]  # fmt: skip
    return Page(f"""\
Each of the {rows[0]["steps"]:,} steps of one run is predicted before it is seen (reference window
at x1.2, one seed, A100 model). From the middle of the run on, steps cost more or less than the
latency profile says; errors are of that half. "Below {100 * RECOVERED:g} %": the mean error of
{STEPS} steps, from then on; – where it never is, or nothing changed. The margin is told below /
above the knee.

{table(heads, lines)}""")


STUDY = Study("tracking", QUESTIONS["tracking"], _cells, _rows, _page)
