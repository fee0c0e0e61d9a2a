"""How much may planning cost? In proportion to the step that is planned.

What a plan looks at one by one is bounded by a count, so that no queue makes planning slow. The
counts are chosen for steps of 20 ms; where a step takes longer, a plan has that much more time too,
and a flood is not answered more slowly because the engine is slow.
"""

from __future__ import annotations

_STEP_S = 0.02


def within(count: int, step_s: float) -> int:
    """So many at 20 ms a step, and in proportion when steps are longer."""
    return max(count, int(count * min(step_s / _STEP_S, 1e6)))
