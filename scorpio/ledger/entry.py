"""What is one line of the decision ledger? All that was known, decided and done about one request.

Times are milliseconds after the request's arrival, on the engine's serving clock; `None` = it never
came to that. No text of a client is in it: no prompt, no token, no key; the tenant and an id that
the client chose are salted hashes.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


class Verdict(enum.Enum):
    """What the policy decided about a request."""

    ADMITTED = "admitted"
    DEGRADED = "degraded"  # let in though its first token was late by then, or forecast to be
    REFUSED = "refused"
    NONE = "none"  # it ended before anything was decided: its client left


def verdict_of(refused: bool, started_s: float, due_s: float, expected_s: float) -> Verdict:
    """Of a request that has ended. started_s, expected_s: when it was let in, and for when its
    first token was forecast then; NaN = never. due_s: of that token; all on one clock."""
    if refused:
        return Verdict.REFUSED
    if math.isnan(started_s):
        return Verdict.NONE
    late = started_s > due_s or (math.isfinite(expected_s) and expected_s > due_s)
    return Verdict.DEGRADED if late else Verdict.ADMITTED


class ShadowVerdict(enum.Enum):
    """What a policy that only watches would have done with a request, beside what was done."""

    REFUSED = "refused"
    EARLIER = "earlier"  # it would have started it in an earlier step
    SAME = "same"  # in the same step
    LATER = "later"  # it was started while the shadow would have held it
    NONE = "none"  # it was not asked: it was off, or the client had left


@dataclass(frozen=True, slots=True)
class ShadowWord:
    """What the shadow said first of a request; it was not obeyed. Times as in `Entry`.

    said_ms: when it refused it, or would have started it. reason, attainable_ttft_ms,
    retry_after_ms: of its refusal. forecast_*: what it expected when it would have let it in.
    """

    policy: str
    verdict: str
    said_ms: float | None = None
    reason: str = ""
    attainable_ttft_ms: float | None = None
    retry_after_ms: float | None = None
    forecast_ttft_ms: float | None = None
    forecast_tpot_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, from its arrival to its end.

    waiting, waiting_tokens, running: the engine when it came, without it (tokens: of prompts).
    due_before: of those that waited, how many had their first token due before its own.
    starts, steps, step_tokens: other requests that started, steps, and tokens computed while it
        waited. cached_tokens: of its prompt, found in the prefix cache when it started.
    blocks: a salted hash for each 512 tokens of its prompt, of all up to there (blocks.py).
    shadow: None where none watched. never: refused, and not even an idle engine could do it.
    """

    id: str
    engine: int
    arrived_unix_s: float
    prompt_tokens: int
    max_tokens: int
    predicted_tokens: float | None
    slo_class: str
    slo_ttft_ms: float | None
    slo_tpot_ms: float | None
    slo_e2el_ms: float | None
    on_miss: str
    tenant: str
    waiting: int
    waiting_tokens: int
    running: int
    due_before: int
    due_before_tokens: int
    policy: str
    version: str
    verdict: str
    reason: str
    forecast_ttft_ms: float | None
    forecast_tpot_ms: float | None
    attainable_ttft_ms: float | None
    retry_after_ms: float | None
    started_ms: float | None
    starts: int
    steps: int
    step_tokens: int
    cached_tokens: int
    first_token_ms: float | None
    ended_ms: float
    output_tokens: int
    mean_gap_ms: float | None
    worst_gap_ms: float | None
    preemptions: int
    outcome: str
    finish_reason: str
    missed: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()
    shadow: ShadowWord | None = None
    never: bool = False

    def to_line(self) -> str:
        """One line of JSON, with its end."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False) + "\n"

    @property
    def slo_first_ms(self) -> float:
        """How long after its arrival the first token is due; inf without such an objective."""
        asked = (self.slo_ttft_ms, self.slo_e2el_ms)
        return min((ms for ms in asked if ms is not None), default=math.inf)


_FIELDS = {field.name: str(field.type) for field in fields(Entry)}
_SHADOW_FIELDS = {field.name: str(field.type) for field in fields(ShadowWord)}
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}


def entry_of(line: str | bytes) -> Entry:
    """An entry from its line; keys of a later version are passed over. Raises ValueError."""
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    return Entry(**{name: _value(raw, name, kind) for name, kind in _FIELDS.items()})


def _value(raw: Mapping[str, Any], name: str, kind: str) -> Any:
    value = raw.get(name)
    if kind == "ShadowWord | None":
        return _shadow(value)
    if kind.startswith("tuple"):
        wanted: type = str if "str" in kind else int
        if not isinstance(value, list) or not all(type(item) is wanted for item in value):
            raise ValueError(f"{name}: must be a list")
        return tuple(value)
    if kind == "bool" and isinstance(value, bool | None):
        return bool(value)  # None: a ledger of before
    if isinstance(value, bool) or not isinstance(value, _KINDS.get(kind, ())):
        raise ValueError(f"{name}: missing or of another kind")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: must be finite")
    return value


def _shadow(raw: object) -> ShadowWord | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise ValueError("shadow: must be an object")
    return ShadowWord(**{name: _value(raw, name, kind) for name, kind in _SHADOW_FIELDS.items()})
