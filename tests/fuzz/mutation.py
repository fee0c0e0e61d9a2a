"""What could a client put in this place of a JSON value? Valid ones, a few nodes changed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 2**31, -(2**31) - 1, 2**53, 2**63, 2**64, 10**400),
    *(0.0, -0.0, 0.5, 1e-9, 5e-324, 1e308, -1e308, float("nan"), float("inf"), -float("inf")),
    *("", "a", "0", "-1", "5", "1e999", "nan", "null", "true", "\x00", "a\x00b", "\n", "{}"),
    *("\ud800", "\udfff\ud800", "\ufeff", "\u202e", "é" * 40, "𝕏" * 20, "a" * 3000, "../" * 9),
    *([], {}, [None], [[]], {"": None}, {"a": {"a": {}}}, [0] * 50, ["a"] * 20, [[1], "a", None]),
)  # fmt: skip
_DEEP, _DEEPER = 200, 12_000


def mutated(chance: random.Random, value: Any, keys: tuple[str, ...] = ()) -> Any:
    """A copy of a JSON value with one to four changes. keys: names worth adding to an object."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        value = _change(chance, value, keys)
    return value


def mutated_bytes(
    chance: random.Random, data: bytes, plain: Callable[[bytes], bytes], keys: tuple[str, ...]
) -> bytes:
    """The same for text that holds a JSON value somewhere; else, and now and then, `plain`."""
    text = data.decode("utf-8", "replace")
    starts = [at for at, letter in enumerate(text[:4000]) if letter in "{["]
    if not starts or chance.random() < 0.4:
        return plain(data)
    at = starts[0] if chance.random() < 0.5 else chance.choice(starts)
    if chance.random() < 0.02:
        return (text[:at] + "[" * _DEEPER + text[at:]).encode("utf-8", "surrogatepass")
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
        new = json.dumps(mutated(chance, value, keys), ensure_ascii=chance.random() < 0.7)
    except (ValueError, RecursionError):
        return plain(data)
    return (text[:at] + new + text[end:]).encode("utf-8", "surrogatepass")


def _change(chance: random.Random, root: Any, keys: tuple[str, ...]) -> Any:
    places = _places(root)
    if not places or chance.random() < 0.05:
        return _value(chance, root)
    holder, key = chance.choice(places)
    act = chance.random()
    if act < 0.5:
        holder[key] = _value(chance, holder[key])
    elif act < 0.65:
        del holder[key]
    elif act < 0.85 and isinstance(holder, dict):
        name = chance.choice(keys) if keys and chance.random() < 0.8 else _name(chance)
        holder[name] = _value(chance, holder[key])
    elif isinstance(holder, list):
        holder.insert(key, holder[key])
    else:  # another part of the whole, copied here
        part = chance.choice(places)
        holder[key] = json.loads(json.dumps(part[0][part[1]]))
    return root


def _value(chance: random.Random, old: Any) -> Any:
    act = chance.random()
    if act < 0.15 and isinstance(old, (int, float)) and not isinstance(old, bool):
        return old * chance.choice((-1, 0, 0.5, 2, 1000)) if abs(old) < 1e300 else 0
    if act < 0.25:
        return [old] * chance.randint(1, 4)
    if act < 0.3:
        return {_name(chance): old}
    if act < 0.33:
        deep: Any = old
        for _ in range(chance.randint(1, _DEEP)):
            deep = [deep]
        return deep
    if act < 0.4:
        return json.dumps(old)
    return json.loads(json.dumps(chance.choice(HOSTILE)))


def _places(root: Any) -> list[tuple[Any, Any]]:
    """(holder, key or index) of every node below the root."""
    found: list[tuple[Any, Any]] = []
    todo = [root] if isinstance(root, (dict, list)) else []
    while todo and len(found) < 500:
        node = todo.pop()
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in list(pairs):
            found.append((node, key))
            if isinstance(child, (dict, list)):
                todo.append(child)
    return found


def _name(chance: random.Random) -> str:
    return "".join(chance.choices("abz_\x00é", k=chance.randint(0, 5)))
