"""Where is the reference data? Beside the project; a test that needs it is skipped without it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def shared_data(relative: str) -> Path:
    """Path of a file of the reference data; skips the test when it is absent."""
    path = SHARED_DATA / relative
    if not path.exists():
        pytest.skip(f"reference data is not here: ../shared/data/{relative}")
    return path
