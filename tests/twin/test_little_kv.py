"""What does `scorpio` make of an engine whose KV, or whose time, barely suffices?"""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.studies.lengths import PLACES
from scorpio.twin.run import TwinRun, run_twin
from workloads.load import LoadKey

CARD = PLACES["24 GB"]  # 24 ms of each step are fixed; 41,408 tokens of KV


def served(load: LoadKey, hint: str = "0.6", **options: Any) -> TwinRun:
    return run_twin(CARD.config(hint, options), load.requests(), "scorpio", load.seed)


def kept(run: TwinRun) -> float:
    return sum(record.good for record in run.records) / len(run.records)


def broken(run: TwinRun) -> int:
    """Let in, and not served as promised."""
    return sum(not r.good and r.reject_reason is None for r in run.records)


def test_where_kv_is_short_its_peak_decides_which_joins() -> None:
    load = LoadKey("servegen-r1-synth", "0:400", "product", 1.5, 0)
    ours, prompts_alone = served(load), served(load, kv_share=10.0, kv_dear_share=10.0)
    assert prompts_alone.preemptions > 100
    assert ours.preemptions < prompts_alone.preemptions / 2
    assert broken(ours) <= 0.01 * len(ours.records)
    assert kept(ours) > kept(prompts_alone)


@pytest.mark.parametrize("scale", [0.4, 0.8])
def test_a_tight_class_that_barely_fits_is_kept_when_it_is_let_in(scale: float) -> None:
    run = served(LoadKey("azure-conv-synth", "0:200", "product", scale, 0))
    assert broken(run) <= 0.02 * len(run.records)
