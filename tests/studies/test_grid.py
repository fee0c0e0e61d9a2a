"""Is each place of the grid the load that its name says?"""

from __future__ import annotations

import numpy as np
import pytest

from scorpio.studies.grid import PLACES


def test_the_day_of_two_hours_is_one_day_long() -> None:
    (place,) = (p for p in PLACES if p.trace == "azure-day")
    load = next(place.scores()).load
    sent_s = np.array([request.send_s for request in load.requests()])
    assert sent_s[-1] == pytest.approx(2 * 3600.0, rel=0.1)
    counts, _ = np.histogram(sent_s, np.linspace(0.0, 7200.0, 6))
    assert counts.argmax() == 2  # its middle is the busiest
    assert counts[[0, 4]].max() < 0.5 * counts[2]
