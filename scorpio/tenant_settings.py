"""Which tenants has the operator named, with which API keys and limits? `[tenants.NAME]`.

A key is never written down: only its SHA-256, as `scorpio hash-key` prints it. A key is long and
drawn by chance, so its hash can be told to others and tells nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator

from scorpio.core.wire import MOST_WEIGHT

RawSlo = Literal["any", "looser", "none"]
DEFAULT_BURST_S = 60.0  # of its rate, where no burst is given
_PREFIX = "sha256:"
_KEY_LINE = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_VLLMS = re.compile(r"key-\d+")  # what keys of `--api-key` are called
Number = Annotated[float, Strict()]
Whole = Annotated[int, Strict()]


def key_line(key: str) -> str:
    """What the SLO file holds of an API key."""
    return _PREFIX + hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def digest_of(line: str) -> bytes:
    """The SHA-256 in such a line."""
    return bytes.fromhex(line.removeprefix(_PREFIX))


class TenantSettings(BaseModel):
    """One tenant. What is absent is not bounded, or as it is for all.

    keys: lines of `scorpio hash-key`. weight: of its share inside a class. classes: that it may
    use; default_class: of a request that names none. raw_slo: which SLOs its requests may state as
    numbers. rate_tokens_per_s, burst_tokens: prompt and output. most_in_flight, most_tight: engine
    requests at once, all and those with a tight SLO."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[str, ...] = ()
    weight: Number | None = Field(default=None, gt=0, le=MOST_WEIGHT, allow_inf_nan=False)
    classes: frozenset[str] | None = None
    default_class: str | None = None
    raw_slo: RawSlo | None = None
    rate_tokens_per_s: Number | None = Field(default=None, gt=0, le=1e12, allow_inf_nan=False)
    burst_tokens: Number | None = Field(default=None, ge=1, le=1e15, allow_inf_nan=False)
    most_in_flight: Whole | None = Field(default=None, ge=1)
    most_tight: Whole | None = Field(default=None, ge=0)

    @field_validator("keys")
    @classmethod
    def _hashes(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for number, line in enumerate(keys, 1):
            if not _KEY_LINE.fullmatch(line):  # its text may be a key: it is not repeated
                raise ValueError(f"entry {number} is no line of `scorpio hash-key` (sha256:...)")
        return keys

    @property
    def burst(self) -> float:
        """Tokens that it may use at once after a pause."""
        return self.burst_tokens or max((self.rate_tokens_per_s or 0.0) * DEFAULT_BURST_S, 1.0)


def check_tenants(
    tenants: Mapping[str, TenantSettings], classes: frozenset[str], default_class: str | None,
    has_tight: bool,
) -> None:  # fmt: skip
    """What no field shows by itself. Raises ValueError that begins with the field."""
    owner: dict[str, str] = {}
    for name, tenant in tenants.items():
        at = f"tenants.{name}"
        if not _NAME.fullmatch(name) or _VLLMS.fullmatch(name):
            raise ValueError(
                f"tenants: {name!r}: a name has 1 to 64 letters, digits, dots, dashes or "
                "underscores, and is none of key-0, key-1, ... (vLLM's own keys)"
            )
        for key in tenant.keys:
            if owner.setdefault(key, name) != name:
                raise ValueError(f"{at}.keys: a key is of tenant {owner[key]!r} already")
        _check_classes(at, tenant, classes, default_class)
        if tenant.burst_tokens is not None and tenant.rate_tokens_per_s is None:
            raise ValueError(f"{at}.burst_tokens needs rate_tokens_per_s")
        if tenant.most_tight is not None and not has_tight:
            raise ValueError(
                f"{at}.most_tight needs tight_ttft_ms or tight_tpot_ms: which SLO is tight?"
            )


def _check_classes(
    at: str, tenant: TenantSettings, classes: frozenset[str], default_class: str | None
) -> None:
    valid = ", ".join(sorted(classes)) or "none are configured"
    for name in sorted(tenant.classes or ()):
        if name not in classes:
            raise ValueError(f"{at}.classes: {name!r} is not a class; valid: {valid}")
    allowed = classes if tenant.classes is None else tenant.classes
    default = tenant.default_class or default_class
    if default is not None and default not in allowed:
        valid = ", ".join(sorted(allowed)) or "none"
        what = "default_class" if tenant.default_class else "classes: the server's default_class"
        raise ValueError(f"{at}.{what} {default!r} is none of its classes; valid: {valid}")
