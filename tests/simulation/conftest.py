"""The simulation is quiet, and the tests after it are not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation import pool


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    loud = pool.quiet()
    yield
    loud()
