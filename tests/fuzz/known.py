"""Which faults of stock vLLM are known? Each is in docs/limits.md."""

from __future__ import annotations

from tests.fuzz.bodies import Shot
from tests.fuzz.shoot import Hit

# name -> (status, a part of the answer, parts that the body has, one of each group)
_Fault = tuple[int, str, tuple[tuple[bytes, ...], ...]]
KNOWN: dict[str, _Fault] = {
    "structured_outputs is no object": (500, "object has no attribute 'get'", ()),
    "an earlier answer without content": (
        500,
        "list index out of range",
        ((b'"input"',), (b'"content": []', b'"content":[]')),
    ),
    "a tool without a function": (500, "'function'", ((b'"tools"',), (b'"tool_choice"',))),
    "a grammar that leaves the model no token": (
        500,
        "Internal server error",
        ((b'"structured_outputs"', b'"response_format"', b'"tools"'),),
    ),
    "trace_decode_token_ids is empty": (500, '"message":""', ((b'"trace_decode_token_ids": []',),)),
}


def known_fault(shot: Shot, hit: Hit) -> str | None:
    """The name of a documented fault, or None."""
    for name, (status, part, groups) in KNOWN.items():
        has = all(any(word in shot.body for word in group) for group in groups)
        if hit.status == status and part in hit.text and has:
            return name
    return None
