"""When is prefill work done beside decodes? Numbers of one engine: 100 ms steps, 40 ms decodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.supply import PrefillSupply

# The coming step may take 140 ms; later ones keep a target of 100 ms.
SUPPLY = PrefillSupply(50.0, 0.140, 0.040, 0.100)


def test_the_share_is_what_decodes_leave_of_a_step() -> None:
    assert SUPPLY.share == pytest.approx(0.6)
    # Decodes that take all of it still end one by one.
    assert PrefillSupply(50.0, 0.1, 0.099, 0.100).share == 0.03
    assert PrefillSupply(50.0, 0.1, 0.300, 0.100).share == 0.03


def test_work_is_done_in_the_coming_step_and_then_at_the_share() -> None:
    done_s = SUPPLY.done_s(np.array([0.0, 0.05, 0.1, 0.16]))
    assert done_s == pytest.approx([50.04, 50.09, 50.14, 50.24])
    late = PrefillSupply(50.0, 0.03, 0.040, 0.100)  # decodes alone take longer than the step may
    assert late.done_s(np.array([0.06])) == pytest.approx([50.14])


def test_nothing_is_done_sooner_than_beside_the_next_decodes_alone() -> None:
    assert SUPPLY.soonest_s(np.array([0.0, 0.16])) == pytest.approx([50.04, 50.20])


def test_decodes_with_a_tighter_target_fall_behind_by_what_each_step_takes_too_long() -> None:
    # 0.16 s of work are done after 0.24 s: 0.1 s of steps beyond the coming one.
    assert SUPPLY.drift_s(0.16, np.array([0.100, 0.080, 0.050, 0.2])) == pytest.approx(
        [0.140, 0.160, 0.190, 0.140]
    )
    assert SUPPLY.drift_s(0.05, np.array([0.050])) == pytest.approx([0.140])
    slow = PrefillSupply(50.0, 0.2, 0.2, 0.1)  # no step is shorter than its decodes
    assert slow.drift_s(0.006, np.array([0.1])) == pytest.approx([0.2 + 0.2 * 0.5])


@pytest.mark.parametrize(("work_s", "later_s"), [(0.0, 0.0), (0.06, 0.1), (0.061, 0.2), (0.3, 0.5)])
def test_later_steps_are_whole_ones(work_s: float, later_s: float) -> None:
    assert SUPPLY.later_s(work_s - 1e-12) == pytest.approx(later_s)


@pytest.mark.parametrize("lasting_share", [0.3, 0.6, 0.8])
def test_what_is_left_grows_to_what_lasts(lasting_share: float) -> None:
    """Against a sum over short times; where today's batch leaves more, that counts on."""
    supply = replace(SUPPLY, lasting_share=lasting_share, turnover_s=2.0)
    each_s = 1e-4
    now_s = np.arange(0.0, 6.0, each_s)
    gain = max(lasting_share - SUPPLY.share, 0.0)
    done_by_s = np.cumsum(SUPPLY.share + gain * np.minimum(now_s / 2.0, 1.0)) * each_s
    work_s = np.array([0.0, 0.05, 0.3, 1.0, 1.4, 1.5, 3.0])
    expected = [
        50.04 + min(work, 0.1) + float(np.searchsorted(done_by_s, work - 0.1)) * each_s
        for work in work_s.tolist()
    ]
    assert supply.done_s(work_s) == pytest.approx(expected, abs=5e-4)
