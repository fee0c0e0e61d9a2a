"""Can what one part hands to another be changed behind its back, or by a misspelt name?"""

from __future__ import annotations

import pkgutil
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any

import pytest

import scorpio.core
import scorpio.engine.scheduler

# Each is written by one owner: the tables of the adapter, a step that is being packed, books.
CHANGING = {
    *("Snapshot", "RunningBatch", "Packed", "_Member", "_InFlight", "_Kind", "Tracked", "Note"),
    *("TokenBucket", "_Learned", "Said", "_Walk", "_Acceptance"),
}


def values(package: Any) -> list[Any]:
    """All dataclasses of the package."""
    names = [
        found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    ]
    modules = [import_module(name) for name in names]
    return [v for m in modules for v in vars(m).values()
            if isinstance(v, type) and is_dataclass(v) and v.__module__ == m.__name__]  # fmt: skip


@pytest.mark.parametrize("package", [scorpio.core, scorpio.engine])
def test_values_are_frozen_and_have_no_other_attributes(package: Any) -> None:
    found = values(package)
    open_ended = {v.__name__ for v in found if "__slots__" not in vars(v)}
    changing = {v.__name__ for v in found if not v.__dataclass_params__.frozen}
    assert len(found) > 5
    assert not open_ended
    assert changing <= CHANGING
