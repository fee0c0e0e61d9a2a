"""Which options does a policy take, and in which range? A frozen dataclass of numbers for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self


def option(default: float, least: float, greatest: float) -> float:
    """A field of `Options`: one number that an operator may set, and its range."""
    number: float = field(default=default, metadata={"range": (least, greatest)})
    return number


def switch(default: float) -> float:
    """A field of `Options` that is on (1) or off (0)."""
    number: float = field(default=default, metadata={"range": (0.0, 1.0), "switch": True})
    return number


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a policy; this one has none. Raises ValueError for one out of its range."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value, (least, greatest) = getattr(self, one.name), one.metadata["range"]
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or math.isnan(value) or not least <= value <= greatest:
                raise ValueError(
                    f"option {one.name} must be in [{least}, {greatest}], got {value!r}"
                )
            if "switch" in one.metadata and value not in (0, 1):
                raise ValueError(f"option {one.name} must be 0 or 1, got {value!r}")

    @classmethod
    def parse(cls, policy: str, raw: Mapping[str, float]) -> Self:
        """Options by name, defaults filled in. Raises ValueError naming the policy, and the unknown
        option with the valid ones, or the bad one with its range."""
        valid = [one.name for one in fields(cls)]
        unknown = sorted(set(raw) - set(valid))
        if unknown:
            names = ", ".join(valid) or "none"
            raise ValueError(f"{policy} has no option {', '.join(unknown)}; valid: {names}")
        try:
            return cls(**raw)
        except ValueError as error:
            raise ValueError(f"{policy} {error}") from None
