"""How are numbers told to people? Times in the unit that fits, counts with their noun."""

from __future__ import annotations

import math

from scorpio.ledger.entry import Entry


def ms_text(milliseconds: float) -> str:
    """`340 ms`, `2.4 s`, `95 s`."""
    if milliseconds < 999.5:
        return f"{milliseconds:.3g} ms"
    return (
        f"{milliseconds / 1000.0:,.3g} s" if milliseconds < 1e6 else f"{milliseconds / 1e3:,.0f} s"
    )


def count(number: int, noun: str) -> str:
    """`no request`, `1 request`, `12 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}"


def tokens(number: int) -> str:
    """`8,400 tokens`."""
    return f"{number:,} token{'' if number == 1 else 's'}"


def first_due(entry: Entry) -> str:
    """When its first token was due."""
    due_ms = entry.slo_first_ms
    return "and none was due" if math.isinf(due_ms) else f"and it was due within {ms_text(due_ms)}"
