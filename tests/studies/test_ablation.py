"""Do the switches of the ablation still exist, does each change something, and is all put back?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.studies.ablation.parts import PARTS, replaced
from scorpio.twin.run import run_twin
from tests.twin.driving import promised, toy_config


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_switched_off_and_on_again(name: str) -> None:
    part = PARTS[name]
    ScorpioOptions.parse("scorpio", part.options)
    assert part.options or part.patches
    before = [vars(owner)[attribute] for owner, attribute, _ in part.patches]
    with replaced(part.patches):
        for owner, attribute, value in part.patches:
            assert vars(owner)[attribute] is value
    after = [vars(owner)[attribute] for owner, attribute, _ in part.patches]
    assert all(a is b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", PARTS)
def test_the_policy_runs_without_it(name: str) -> None:
    """A policy that raises voids the run, so a replacement of the wrong shape shows here."""
    rng = np.random.default_rng(0)
    crowd = [
        promised(i, 0.004 * i, int(rng.integers(20, 200)), int(rng.integers(2, 30)), 0.3, 0.03)
        for i in range(60)
    ]
    with replaced(PARTS[name].patches):
        options = {"scorpio": PARTS[name].options}
        run = run_twin(replace(toy_config(), policy_options=options), crowd, "scorpio")
    assert len(run.records) == 60
