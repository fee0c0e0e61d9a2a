"""Does the twin's drafter accept what it says, at the cost it says? Does every token come?"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from scorpio.studies.drafts import DRAFTER
from scorpio.studies.study import engine
from scorpio.twin.gpu.drafter import Drafter
from scorpio.twin.run import run_twin
from workloads.load import LoadKey

LOAD = LoadKey("azure-conv-synth", "0:120", "six", 1.6, 0)


def test_of_so_many_drafts_the_first_are_accepted_by_chance() -> None:
    accepts = replace(DRAFTER, spread=0.0).accepts(0)
    counts = [accepts("r", 3) for _ in range(20_000)]
    a = DRAFTER.chance
    assert np.mean(counts) == pytest.approx(a + a**2 + a**3, rel=0.02)
    assert accepts("r", 0) == 0


def test_requests_differ_by_the_spread() -> None:
    accepts = replace(DRAFTER, spread=0.1).accepts(3)
    chances = [np.mean([accepts(f"r{n}", 1) for _ in range(400)]) for n in range(300)]
    assert np.mean(chances) == pytest.approx(DRAFTER.chance, abs=0.02)
    assert np.std(chances) == pytest.approx(0.1, abs=0.02)


def test_each_draft_makes_a_step_longer_verified_or_not() -> None:
    gpu = engine().gpu
    slower = DRAFTER.with_drafts(4).slower(gpu)
    assert slower.step.base_s == pytest.approx(gpu.step.base_s * (1 + 4 * DRAFTER.pass_share))
    assert slower.step.context_token_s == gpu.step.context_token_s


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("policy", ["scorpio", "fcfs", "qoserve"])
def test_every_token_comes_once(policy: str, depth: Literal[1, 2]) -> None:
    """The twin's ledger raises when one is lost, doubled or another's."""
    config = replace(engine().drafting(DRAFTER), check_invariants=True)
    config = replace(config, engine=replace(config.engine, pipeline_depth=depth))
    load = LOAD.requests()
    found = run_twin(config, load, policy, 0)
    tokens = {r.index: r.output_tokens for r in found.records if r.reject_reason is None}
    assert tokens == {r.index: r.output_tokens for r in load if r.index in tokens}
    assert found.event_digest == run_twin(config, load, policy, 0).event_digest


@pytest.mark.parametrize(("chance", "spread"), [(0.0, 0.1), (1.0, 0.1), (0.5, 0.5)])
def test_a_drafter_that_cannot_be_is_an_error(chance: float, spread: float) -> None:
    with pytest.raises(ValueError, match="no chance"):
        Drafter("d", 1, chance, spread, 0.1, 0.1, "")
