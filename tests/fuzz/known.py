"""Which faults of stock vLLM are known? Each is in docs/serving.md, "Known faults of vLLM 0.32"."""

from __future__ import annotations

from tests.fuzz.shoot import Hit

# name -> (status, a part of the answer)
KNOWN: dict[str, tuple[int, str]] = {
    "structured_outputs is no object": (500, "object has no attribute 'get'"),
}


def known_fault(hit: Hit) -> str | None:
    """The name of a documented fault, or None."""
    for name, (status, part) in KNOWN.items():
        if hit.status == status and part in hit.text:
            return name
    return None
