"""Is what is read off a window what `np.percentile` says of it, to the last bit?"""

from __future__ import annotations

import random

import numpy as np

from scorpio.window import Window

_EDGES = (0.0, 5e-324, 1e308, 0.1, 1 / 3)


def test_quantiles_are_numpy_s() -> None:
    draw = random.Random(1)
    for count in (1, 2, 3, 4, 51, 100, 101, 1023, 1024, 1500):
        for _ in range(20):
            window = Window()
            values = [draw.choice((*_EDGES, draw.gauss(0.0, 1e6))) for _ in range(count)]
            for value in values:
                window.add(value)
            p50, p99 = np.percentile(values[-1024:], (50, 99))
            assert window.quantiles(400) == {"p50": float(p50), "p99": float(p99)}


def test_nothing_yet_is_zero() -> None:
    window = Window()
    window.add(3.0)
    window.restart()
    assert window.quantiles(1) == {"p50": 0.0, "p99": 0.0}
