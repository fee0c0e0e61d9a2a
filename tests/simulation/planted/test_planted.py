"""Every planted bug is seen on the seeds known for it; without a bug those seeds are clean.

python -m tests.simulation.planted.search      # all seeds from 0 on, until each bug is seen
"""

from __future__ import annotations

import pytest

from tests.simulation.planted.bugs import BUGS, SEEDS
from tests.simulation.planted.planting import Bug, catch


def test_there_are_forty_bugs_and_a_seed_for_each() -> None:
    assert len(BUGS) >= 40
    assert SEEDS.keys() == BUGS.keys()


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_seen(name: str) -> None:
    found = catch(BUGS[name], [SEEDS[name]])
    assert found.what, f"seed {SEEDS[name]} does not show it: search again"


@pytest.mark.parametrize("pairs", [False, True])
def test_the_seeds_are_clean_without_a_bug(pairs: bool) -> None:
    seeds = {SEEDS[name] for name, bug in BUGS.items() if bug.pairs == pairs}
    assert catch(Bug("none", "", pairs=pairs), sorted(seeds)).what == ""
