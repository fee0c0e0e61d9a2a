"""In which order and colour does a policy appear? The same in every table and figure.

Colours are Okabe and Ito's (told apart by colour-blind readers), helped by markers and dashes;
stock vLLM is grey, the policy under test stands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

BASELINE = "fcfs"
TUNED = "fcfs-tuned"
SUBJECT = "scorpio"
_DASHES: dict[str, Any] = {
    "solid": "-",
    "dashed": (0, (5, 2)),
    "dotted": (0, (1, 1.5)),
    "mixed": (0, (5, 1.5, 1, 1.5)),
}
# name: (colour, marker, dashes), in display order
_KNOWN = {
    "fcfs": ("#8a8a8a", "o", "solid"),
    "fcfs-tuned": ("#222222", "s", "dashed"),
    "fcfs+queue-cap": ("#7a5c2e", "v", "mixed"),
    "fcfs+adaptive-long-prefill": ("#8f9e1f", "^", "dotted"),
    "priority-edf": ("#CC79A7", "P", "dashed"),
    "edf": ("#CC79A7", "P", "dotted"),
    "sjf": ("#009E73", "X", "mixed"),
    "mooncake": ("#56B4E9", "D", "dashed"),
    "qoserve": ("#0072B2", "^", "solid"),
    "qoserve+reject": ("#0072B2", "v", "dashed"),
    "fairbatching": ("#5e3c99", "<", "solid"),
    "slidingserve": ("#1b7837", ">", "solid"),
    "scorpio-paper": ("#E69F00", "s", "solid"),
    "scorpio": ("#D55E00", "o", "solid"),
}
_OTHERS = (
    ("#5e3c99", "<", "dashed"),
    ("#1b7837", ">", "dotted"),
    ("#b2182b", "h", "mixed"),
    ("#4575b4", "p", "dotted"),
)


@dataclass(frozen=True, slots=True)
class PolicyStyle:
    """How one policy is drawn."""

    colour: str
    marker: str
    dashes: Any
    width: float
    front: int  # higher is drawn later


def policy_style(policy: str) -> PolicyStyle:
    """The style of a policy; unknown names get one that depends on the name alone."""
    known = _KNOWN.get(policy)
    colour, marker, dashes = known or _OTHERS[crc32(policy.encode()) % len(_OTHERS)]
    strong = policy in (SUBJECT, BASELINE)
    return PolicyStyle(colour, marker, _DASHES[dashes], 2.6 if strong else 1.5, 4 if strong else 3)


def policy_order(policy: str) -> tuple[int, str]:
    """Sort key: the known ones from stock to Scorpio, then the others by name."""
    names = list(_KNOWN)
    return (names.index(policy) if policy in _KNOWN else len(names), policy)
