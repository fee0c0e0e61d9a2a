"""Do the switches of the ablation still exist, does each change something, and is all put back?"""

from __future__ import annotations

import numpy as np
import pytest

from scorpio.core.options import parse_options
from scorpio.core.policies.scorpio.policy import OPTIONS
from scorpio.studies.ablation import PARTS, replaced
from scorpio.twin.run import run_twin
from tests.twin.driving import promised, toy_config


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_switched_off_and_on_again(name: str) -> None:
    part = PARTS[name]
    parse_options("scorpio", OPTIONS, part.options)
    assert part.options or part.patches
    before = [vars(owner)[attribute] for owner, attribute, _ in part.patches]
    with replaced(part.patches):
        for owner, attribute, value in part.patches:
            assert vars(owner)[attribute] is value
    after = [vars(owner)[attribute] for owner, attribute, _ in part.patches]
    assert all(a is b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", [name for name in PARTS if PARTS[name].patches])
def test_the_policy_runs_without_it(name: str) -> None:
    """A policy that raises voids the run, so a replacement of the wrong shape shows here."""
    rng = np.random.default_rng(0)
    crowd = [
        promised(i, 0.004 * i, int(rng.integers(20, 200)), int(rng.integers(2, 30)), 0.3, 0.03)
        for i in range(60)
    ]
    with replaced(PARTS[name].patches):
        run = run_twin(toy_config(), crowd, "scorpio")
    assert len(run.records) == 60
