"""What if a status file holds something else? What is no number or no object counts as none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def mapping(value: object) -> Mapping[str, Any]:
    """An object, empty when it is none."""
    return value if isinstance(value, Mapping) else {}


def number(value: object) -> float:
    """A finite number, zero when it is none."""
    try:
        found = float(value) if isinstance(value, (int, float)) else 0.0
    except OverflowError:
        return 0.0
    return found if math.isfinite(found) else 0.0
