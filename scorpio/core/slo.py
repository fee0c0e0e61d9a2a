"""What did the client ask for? SLO values, named classes, and their validation.

Raw values come from HTTP headers and `vllm_xargs` (see docs/how-it-works.md); vLLM lets NaN,
1e999, -5, true and "0" through, so nothing here trusts a type. Every error names its field.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_SLO_MS = 86_400_000.0  # one day; anything above is a typing error, not a promise
# What float() takes beside it ("1_000", "٣", "nan") no other program would read alike.
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
MIN_SLO_MS = 1e-3  # one microsecond; 5e-324 ms would be 0 s, and 1/S would overflow


class SloError(ValueError):
    """A malformed SLO. `field` is the name the client used, `message` says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class OnMiss(enum.Enum):
    """What the client wants when its SLO cannot be met (`x-scorpio-on-miss`)."""

    REJECT = "reject"  # 429 at once (the default)
    DEGRADE = "degrade"  # serve as best effort, behind all whose SLO can be met
    WAIT = "wait"  # keep its place; never reject


@dataclass(frozen=True, slots=True)
class Slo:
    """Objectives of one request, in seconds; `inf` means "no promise asked for".

    value: what keeping them is worth to the operator, as a multiple of an ordinary request. It
    comes from the operator's class; nothing that a client sends can set it.
    """

    ttft_s: float = math.inf
    tpot_s: float = math.inf
    e2e_s: float = math.inf
    on_miss: OnMiss = OnMiss.REJECT
    value: float = 1.0

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s", "e2e_s", "value"):
            value = getattr(self, name)
            if not value > 0.0:  # also catches NaN
                raise ValueError(f"{name} must be > 0, got {value!r}")
        if math.isinf(self.value):
            raise ValueError("value must be finite")

    @property
    def any(self) -> bool:
        """True when at least one objective is finite."""
        return math.isfinite(self.ttft_s) or math.isfinite(self.tpot_s) or math.isfinite(self.e2e_s)

    @property
    def refusable(self) -> bool:
        """True when a policy may refuse for it: an objective was stated, to be kept or told."""
        return self.any and self.on_miss is OnMiss.REJECT


@dataclass(frozen=True, slots=True)
class SloClass:
    """A named class of the operator's SLO file."""

    name: str
    slo: Slo


@dataclass(frozen=True, slots=True)
class Offer:
    """The tightest TTFT and TPOT SLO that a request may ask for.

    The whole batch keeps the tightest TPOT target in it, and the earliest deadline goes first, so
    one that asks for more than this is paid for by all others.
    """

    least_ttft_s: float = 0.0
    least_tpot_s: float = 0.0

    def check(self, slo: Slo) -> None:
        """Raises SloError naming the objective that is not offered."""
        for name, asked_s, least_s in (
            ("slo_ttft_ms", slo.ttft_s, self.least_ttft_s),
            ("slo_tpot_ms", slo.tpot_s, self.least_tpot_s),
            ("slo_e2el_ms", slo.e2e_s, self.least_ttft_s),  # a first token is due by then
        ):
            if asked_s < least_s:
                raise SloError(name, f"this server offers {least_s * 1000.0:g} ms at best")


NO_SLO = Slo()
ANY_OFFER = Offer()
# Flat keys accepted in `vllm_xargs`; the middleware folds headers into the same keys.
XARG_FIELDS = ("slo_ttft_ms", "slo_tpot_ms", "slo_e2el_ms")
XARG_CLASS = "slo_class"
XARG_ON_MISS = "slo_on_miss"
XARG_PREDICTED = "predicted_output_tokens"
XARG_QUANTILES = "predicted_output_quantiles"
XARG_TENANT = "slo_tenant"
XARG_WEIGHT = "scorpio_weight"  # of the server: its tenant's weight
XARG_QUOTED = "scorpio_quoted"  # of the server: it was quoted what it asks for; "1"
XARG_SLO = "scorpio_slo"  # of the server: the whole SLO, where the engine knows other classes
XARG_BODY = "scorpio_body"  # of the server: which body an engine request is a part of


def parse_ms(field: str, raw: object) -> float:
    """Milliseconds as given by a client (number or numeric string) -> seconds.

    Raises:
        SloError: not a number, bool, NaN, infinite, <= 0, below 1 us, or above one day.
    """
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise SloError(field, f"must be a number of milliseconds > 0, got {type(raw).__name__}")
    if isinstance(raw, str) and not _NUMBER.fullmatch(raw):
        raise SloError(field, "must be a number of milliseconds > 0")
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        raise SloError(field, "must be a number of milliseconds > 0") from None
    if not MIN_SLO_MS <= value <= MAX_SLO_MS:  # also catches NaN and infinity
        raise SloError(field, f"must be > 0 (at least {MIN_SLO_MS} ms) and <= {MAX_SLO_MS:.0f} ms")
    return value / 1000.0


@dataclass(frozen=True, slots=True)
class SloBook:
    """What the operator offers: named classes, what a request without words gets, and the tightest
    SLOs that may be asked for."""

    classes: Mapping[str, SloClass] = field(default_factory=dict)
    default: Slo = NO_SLO
    offer: Offer = ANY_OFFER

    def resolve(self, xargs: Mapping[str, object]) -> tuple[Slo, str]:
        """The SLO of a request from its `vllm_xargs`: explicit values override the class.

        The API process resolves to answer 400; EngineCore resolves the same words again, because
        requests also come to it past the API process.

        Returns:
            (slo, class name); the class name is "" when none was named.

        Raises:
            SloError: malformed value, one that is not offered, or unknown class (the message lists
                the valid ones).
        """
        base, class_name = self.default, ""
        if XARG_CLASS in xargs:
            raw = xargs[XARG_CLASS]
            if not isinstance(raw, str) or raw not in self.classes:
                valid = ", ".join(sorted(self.classes)) or "none are configured"
                raise SloError(XARG_CLASS, f"unknown class; valid: {valid}")
            base, class_name = self.classes[raw].slo, raw
        ttft_s, tpot_s, e2e_s = (
            parse_ms(name, xargs[name]) if name in xargs else inherited
            for name, inherited in zip(
                XARG_FIELDS, (base.ttft_s, base.tpot_s, base.e2e_s), strict=True
            )
        )
        slo = Slo(ttft_s, tpot_s, e2e_s, parse_on_miss(xargs, base.on_miss), base.value)
        self.offer.check(slo)
        return slo, class_name


def parse_on_miss(xargs: Mapping[str, object], default: OnMiss) -> OnMiss:
    """`slo_on_miss` of a request, or `default`. Raises SloError naming the choices."""
    raw = xargs.get(XARG_ON_MISS)
    if raw is None:
        return default
    try:
        return OnMiss(raw)
    except ValueError:
        choices = ", ".join(m.value for m in OnMiss)
        raise SloError(XARG_ON_MISS, f"must be one of {choices}") from None


def parse_predicted_tokens(xargs: Mapping[str, object]) -> float | None:
    """`predicted_output_tokens` of a request; None when absent. Raises SloError."""
    raw = xargs.get(XARG_PREDICTED)
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise SloError(XARG_PREDICTED, "must be a number of tokens >= 1")
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        raise SloError(XARG_PREDICTED, "must be a number of tokens >= 1") from None
    if not 1.0 <= value <= 1e9:
        raise SloError(XARG_PREDICTED, "must be a number of tokens >= 1")
    return value


def parse_length_quantiles(xargs: Mapping[str, object]) -> tuple[float, ...]:
    """`predicted_output_quantiles`: tokens at (q10, q50, q90); () when absent. Raises SloError."""
    raw = xargs.get(XARG_QUANTILES, ())
    if isinstance(raw, (list, tuple)) and len(raw) in (0, 3):
        # plain numbers only: whatever compares false (NaN) or cannot be compared is refused
        values = tuple(float(v) for v in raw if type(v) in (int, float) and 0 <= v <= 1e9)
        if len(values) == len(raw) and list(values) == sorted(values):
            return values
    raise SloError(XARG_QUANTILES, "must be three ascending numbers of tokens >= 0")
