"""Of which engine is a ledger? A line of its own, so that the traffic can be served once more in
the twin: limits, speed as measured, and the policies that were in force from then on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

KEY = "engine_facts"
_BEGIN = f'{{"{KEY}":'.encode()


@dataclass(frozen=True, slots=True)
class Facts:
    """Written when an engine starts, when its policy or profile is replaced, and at the head of
    each file.

    limits: flags and sizes, under the names of `EngineSpec`. latency: `LatencyProfile.to_dict`;
    None = never measured. values: of the classes that are worth more or less than 1.
    """

    since_unix_s: float
    engine: int
    version: str
    policy: str
    policy_options: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    latency: Mapping[str, Any] | None = None
    shadow: str | None = None
    shadow_options: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def to_line(self) -> str:
        """One line of JSON, with its end."""
        content = {KEY: asdict(self)}
        return json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"

    def alike(self, other: Facts) -> bool:
        """Do both speak of the same, whenever and on whichever data-parallel engine?"""
        return replace(self, since_unix_s=0.0, engine=0) == replace(
            other, since_unix_s=0.0, engine=0
        )


_KINDS: dict[str, tuple[type, ...]] = {
    "float": (int, float),
    "int": (int,),
    "str": (str,),
    "str | None": (str, type(None)),
    "Mapping[str, float]": (dict,),
    "Mapping[str, Any]": (dict,),
    "Mapping[str, Any] | None": (dict, type(None)),
}


def is_facts(line: bytes) -> bool:
    """Is it such a line, and no request's?"""
    return line.startswith(_BEGIN)


def facts_of(line: bytes) -> Facts:
    """From its line; keys of a later version are passed over. Raises ValueError."""
    raw = json.loads(line)[KEY]
    if not isinstance(raw, dict):
        raise ValueError(f"{KEY}: not an object")
    for one in fields(Facts):
        value = raw.get(one.name)
        if isinstance(value, bool) or not isinstance(value, _KINDS[str(one.type)]):
            raise ValueError(f"{KEY}.{one.name}: missing or of another kind")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{KEY}.{one.name}: must be finite")
    return Facts(**{one.name: raw[one.name] for one in fields(Facts)})
