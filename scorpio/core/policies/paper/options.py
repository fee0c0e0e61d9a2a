"""What may an operator tune in `scorpio-paper`? Its constants, with the published defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

# name -> (least, greatest) allowed value
_RANGES = {
    "kappa": (1.0, 100.0),
    "safety": (0.01, 1.0),
    "ttft_margin_s": (0.0, 3600.0),
    "best_effort_tpot_s": (0.001, 3600.0),
    "ttft_guard": (0.0, 1.0),
    "tpot_guard": (0.0, 1.0),
}
_SWITCHES = ("ttft_guard", "tpot_guard")


@dataclass(frozen=True, slots=True)
class PaperOptions:
    """Constants of the published algorithm.

    kappa, safety, ttft_margin_s: 1.3, 0.99 and 50 ms in the public artefact of arXiv 2505.23022.
    best_effort_tpot_s: pace granted to requests without a TPOT SLO (ours; see virtual_batch.py).
    ttft_guard, tpot_guard: 1 or 0, for the paper's ablation. Without the first, arrival order and
    nobody refused for TTFT; without the second, no admission test and no credits.
    """

    kappa: float = 1.3
    safety: float = 0.99
    ttft_margin_s: float = 0.05
    best_effort_tpot_s: float = 1.0
    ttft_guard: float = 1.0
    tpot_guard: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _RANGES[field.name]
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or math.isnan(value) or not low <= value <= high:
                raise ValueError(
                    f"scorpio-paper option {field.name} must be in [{low}, {high}], got {value!r}"
                )
            if field.name in _SWITCHES and value not in (0, 1):
                raise ValueError(f"scorpio-paper option {field.name} must be 0 or 1, got {value!r}")

    @classmethod
    def parse(cls, raw: Mapping[str, float]) -> PaperOptions:
        """Options by name. Raises ValueError naming the unknown or the bad one."""
        unknown = sorted(set(raw) - set(_RANGES))
        if unknown:
            valid = ", ".join(_RANGES)
            raise ValueError(f"scorpio-paper has no option {', '.join(unknown)}; valid: {valid}")
        return cls(**raw)
