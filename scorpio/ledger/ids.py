"""What does the ledger call a request, as clients may choose ids? Nothing in a client's words.

vLLM's handlers make `chatcmpl-NAME`, `cmpl-NAME-0` (by prompt) or `resp_NAME_0` (by turn) of a
client's name or of their own, its engine client adds `-` and eight characters, and choices get
`0_`, `1_`, ... in front.
A NAME of hexadecimal digits and dashes, as vLLM and most gateways draw them, is kept. Any other
is replaced by `~` and its salted hash; `explain` finds it by the name all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b

_KINDS = ("chatcmpl-", "cmpl-", "generate-tokens-", "resp_")
CHOICE = re.compile(r"^\d+_")
MADE_UNIQUE = re.compile(r"-[0-9a-f]{8}$")
PART = re.compile(r"[-_]\d+$")  # one prompt, one turn
OF_PARTS = ("cmpl-", "resp_")
_DRAWN = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{3,63}")


def hashed(text: str, salt: bytes) -> str:
    """Twelve hexadecimal digits that only the holder of the salt can test a guess against; "" stays
    "": none."""
    content = text.encode(errors="surrogatepass")
    return blake2b(content, digest_size=6, key=salt).hexdigest() if text else ""


def ledger_id(engine_id: str, salt: bytes) -> str:
    """The engine's id of a request without words of its client."""
    choice = CHOICE.match(engine_id)
    front = choice.group() if choice else ""
    rest = engine_id.removeprefix(front)
    kind = kind_of(rest)
    rest, back = _cut(rest.removeprefix(kind), MADE_UNIQUE)
    if kind in OF_PARTS:
        rest, part = _cut(rest, PART)
        back = part + back
    return front + kind + _told(rest, salt) + back


def ledger_names(wanted: str, salt: bytes) -> set[str]:
    """What the ledger may call a request whose id, or a part of it, is typed as `wanted`."""
    return {
        kind + _told(name, salt) + back
        for kind in {"", kind_of(wanted)}
        for name, back in _readings(wanted.removeprefix(kind))
    }


def kind_of(name: str) -> str:
    """What vLLM put in front of it, "" for nothing."""
    return next((kind for kind in _KINDS if name.startswith(kind)), "")


def _readings(rest: str) -> Iterator[tuple[str, str]]:
    """With and without what vLLM may have put behind it."""
    yield rest, ""
    name, unique = _cut(rest, MADE_UNIQUE)
    yield name, unique
    name, part = _cut(name, PART)
    yield name, part + unique


def _cut(text: str, end: re.Pattern[str]) -> tuple[str, str]:
    found = end.search(text)
    return (text[: found.start()], found.group()) if found else (text, "")


def _told(name: str, salt: bytes) -> str:
    return name if not name or _DRAWN.fullmatch(name) else f"~{hashed(name, salt)}"
