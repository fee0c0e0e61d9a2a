"""Which faults of stock vLLM are known? Each is in docs/serving.md, "Known faults of vLLM 0.32"."""

from __future__ import annotations

from tests.fuzz.shoot import Hit

# name -> (status, a part of the answer)
KNOWN: dict[str, tuple[int, str]] = {}


def known_fault(hit: Hit) -> str | None:
    """The name of a documented fault, or None."""
    for name, (status, part) in KNOWN.items():
        if hit.status == status and part in hit.text:
            return name
    return None
