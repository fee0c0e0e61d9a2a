"""Can what a client says cross to the engine process?

vLLM registers a request before it encodes it for EngineCore (v1/engine/async_llm.py,
`_add_request`). What msgpack cannot carry (half a surrogate pair, an integer of more than 64 bits)
raises only there, and the registered request stays behind for ever, prompt included. So everything
is tried with the same encoder first; a body nested so deep that a parser's recursion may end in it
is refused as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from scorpio.core.slo import SloError

MOST_DEPTH: Final = 100  # JSON schemas of tools need some 30
MOST_XARGS_BYTES: Final = 65_536
_NAMED_CHARS = 64  # of a field that the client made up
_TEXT = "holds text that is not Unicode (half a surrogate pair)"
_NUMBER = "holds an integer of more than 64 bits"
_DEPTH = f"is nested more than {MOST_DEPTH} levels deep"


def check_body(raw: bytes, body: Mapping[str, object]) -> None:
    """Raises SloError naming the first field of `body` (parsed from `raw`) that cannot cross."""
    may_be_deep = raw.count(b"[") + raw.count(b"{") > MOST_DEPTH
    for field, value in body.items():
        if may_be_deep and _is_deep(value):
            raise SloError(_named(field), _DEPTH)
        if (problem := _problem({field: value})) is not None:
            raise SloError(_named(field), problem)


def _named(field: str) -> str:
    return field[:_NAMED_CHARS] or "body"


def check_xargs(field: str, xargs: Mapping[str, object]) -> None:
    """Raises SloError naming `field` when these take too much room."""
    if len(msgspec.msgpack.encode(xargs)) > MOST_XARGS_BYTES:
        raise SloError(field, f"must take at most {MOST_XARGS_BYTES} bytes")


def check_params(sampling_params: Any) -> None:
    """Raises ValueError, vLLM's 400, when sampling parameters, however stated, cannot cross."""
    problem = _problem(sampling_params)
    if problem is not None:
        raise ValueError(f"a sampling parameter {problem}")


def _problem(value: object) -> str | None:
    try:
        _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _TEXT
    except OverflowError:
        return _NUMBER
    except RecursionError:
        return _DEPTH
    return None


def _is_deep(value: object) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MOST_DEPTH - 1):  # the body itself is a level
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


# What no JSON body can hold (callables, tensors) is vLLM's own to encode.
_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=lambda _: None)
