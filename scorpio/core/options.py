"""Which options does a policy take, and in which range? One parser for all small option sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One number an operator may set."""

    default: float
    least: float
    greatest: float


def parse_options(
    policy: str, known: Mapping[str, Option], raw: Mapping[str, float]
) -> dict[str, float]:
    """Every option by name, defaults filled in. Raises ValueError naming the unknown or bad one."""
    unknown = sorted(set(raw) - set(known))
    if unknown:
        valid = ", ".join(known) or "none"
        raise ValueError(f"{policy} has no option {', '.join(unknown)}; valid: {valid}")
    values = {name: raw.get(name, option.default) for name, option in known.items()}
    for name, value in values.items():
        low, high = known[name].least, known[name].greatest
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or math.isnan(value) or not low <= value <= high:
            raise ValueError(f"{policy} option {name} must be in [{low}, {high}], got {value!r}")
    return {name: float(value) for name, value in values.items()}
