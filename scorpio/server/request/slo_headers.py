"""What did the client promise itself? Headers and body fields -> one set of `vllm_xargs`.

First match wins: llm-d's headers, our aliases, `vllm_xargs`, then the named class (header, else
`slo_class`, else OpenAI `service_tier`), then the server's default class, which the engine applies
by itself. What is folded in are the client's own words, checked; the engine resolves them again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from scorpio.core.slo import (
    XARG_CLASS,
    XARG_ON_MISS,
    XARG_PREDICTED,
    XARG_TENANT,
    OnMiss,
    Slo,
    SloBook,
    SloError,
    parse_ms,
    parse_on_miss,
    parse_predicted_tokens,
)
from scorpio.core.tenants import tenant_id
from scorpio.server.request.choices import check_choices
from scorpio.settings import DEFAULT_MOST_CHOICES
from scorpio.tenant_settings import RawSlo

# Per xargs field: the headers that state it, in order of precedence.
MS_HEADERS: dict[str, tuple[str, ...]] = {
    "slo_ttft_ms": ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"),
    "slo_tpot_ms": ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"),
    "slo_e2el_ms": ("x-slo-e2el-ms",),
}
# llm-d's names, today's and those that gateways still send.
CLASS_HEADERS = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
TENANT_HEADERS = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
TIER_FIELD = "service_tier"
QUOTE_HEADER = "x-scorpio-quote"
ON_MISS_HEADER = "x-scorpio-on-miss"
# vLLM looks into these without looking at them first (v1/engine/output_processor.py): a 500.
TRANSFERS = ("kv_transfer_params", "ec_transfer_params")
MOST_NAME_CHARS = 256
_OURS = "slo_"  # how our names in `vllm_xargs` begin
XARGS = (*MS_HEADERS, XARG_CLASS, XARG_ON_MISS, XARG_TENANT)
# Every name under which a value of ours can be malformed; others are the client's own words.
FIELDS = frozenset(
    (
        *MS_HEADERS,
        *(name for names in MS_HEADERS.values() for name in names),
        *TENANT_HEADERS,
        *(ON_MISS_HEADER, XARG_CLASS, XARG_ON_MISS, XARG_TENANT, XARG_PREDICTED),
        *("n", "best_of", "user", "vllm_xargs", "extra_args", *TRANSFERS),
    )
)


@dataclass(frozen=True, slots=True)
class SloRules:
    """How the words of HTTP are read: service tier -> class, and what a client itself may say.

    client_on_miss: what a request itself may choose
    (a class may say more: it is the operator's). most_choices: the largest `n`. trust_fairness_id:
    the fairness header is a gateway's word about whom it has checked, not the client's own.
    raw_slo: which SLOs may be stated as numbers. Of a tenant: allowed: the classes that it may
    name, None = all; own_class: of a request that names none.
    """

    book: SloBook
    tiers: Mapping[str, str] = field(default_factory=dict)
    client_on_miss: frozenset[OnMiss] = frozenset(OnMiss)
    most_choices: int = DEFAULT_MOST_CHOICES
    trust_fairness_id: bool = False
    raw_slo: RawSlo = "any"
    allowed: frozenset[str] | None = None
    own_class: str | None = None


@dataclass(frozen=True, slots=True)
class Stated:
    """What one request asks for: the complete `vllm_xargs` to send on, and what they mean.

    tenant: whose it is, "" = not known. slo_class: that it names, or its tenant's; "" = none.
    foreign_objective: a header names an objective that is none of our classes.
    words: per field of MS_HEADERS the client's own word for it: the header or body field with the
    number, or with the class that has it; none for what the server gives by itself.
    """

    xargs: dict[str, object]
    slo: Slo
    tenant: str = ""
    foreign_objective: bool = False
    slo_class: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


class NotAllowedError(SloError):
    """It is well-formed, and this client may not ask for it."""


def first_headers(raw: object) -> dict[str, str]:
    """ASGI headers as text; of a repeated header the first one counts."""
    found: dict[str, str] = {}
    for name, value in raw if isinstance(raw, (list, tuple)) else ():
        found.setdefault(name.decode("latin-1").lower(), _text(value).strip())
    return found


def _text(value: bytes) -> str:
    # Names in headers are UTF-8 where they are not ASCII; the standard only promises bytes.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def resolve(
    headers: Mapping[str, str],
    body: Mapping[str, object],
    given: Mapping[str, object],
    rules: SloRules,
    account: str,
    unrefusable: bool,
) -> Stated:
    """Everything a request states, in one place.

    given: its `vllm_xargs`. account: of its checked API key, "" without one. unrefusable: a refusal
    could not be told to its client as one, so it is served late instead.

    Raises:
        SloError: a malformed value; `field` is the header or body field the client used.
        NotAllowedError: a class or a number that this client may not use.
    """
    check_choices(body, rules.most_choices)
    for transfer in TRANSFERS:
        if not isinstance(given.get(transfer), Mapping | None):
            raise SloError(transfer, "must be an object")
    for word in given:
        if word.startswith(_OURS) and word not in XARGS:
            raise SloError(word, f"unknown; valid: {', '.join(XARGS)}")
    numbers = _numbers(headers)
    xargs = dict(given) | {xarg: value for xarg, (_, value) in numbers.items()}
    said_in = {xarg: name for xarg, (name, _) in numbers.items()}
    if ON_MISS_HEADER in headers:
        xargs[XARG_ON_MISS] = _on_miss(headers[ON_MISS_HEADER])
        said_in[XARG_ON_MISS] = ON_MISS_HEADER
    class_word = XARG_CLASS if XARG_CLASS in given else None
    if (named := _class_named(headers, body, given, rules)) is not None:
        xargs[XARG_CLASS], class_word = named
    if rules.own_class is not None:
        xargs.setdefault(XARG_CLASS, rules.own_class)
    try:
        slo, slo_class = rules.book.resolve(xargs)
        _check_allowed(slo, slo_class, xargs, rules)
    except SloError as error:
        raise type(error)(said_in.get(error.field, error.field), error.message) from None
    if xargs.get(XARG_ON_MISS) is not None and slo.on_miss not in rules.client_on_miss:
        field = said_in.get(XARG_ON_MISS, XARG_ON_MISS)
        raise SloError(field, f"this server does not let clients choose {slo.on_miss.value!r}")
    parse_predicted_tokens(xargs)
    tenant = _tenant(headers, body, given, rules, account)
    if slo.any or XARG_TENANT in given or any(headers.get(name) for name in TENANT_HEADERS):
        xargs |= {XARG_TENANT: tenant} if tenant else {}
    if unrefusable and slo.refusable:
        # Not WAIT: late, it would still keep its turn, and operators may give WAIT to others alone.
        xargs[XARG_ON_MISS] = OnMiss.DEGRADE.value
        slo = replace(slo, on_miss=OnMiss.DEGRADE)
    objectives = [headers[name] for name in CLASS_HEADERS if headers.get(name)]
    foreign = bool(objectives) and not any(name in rules.book.classes for name in objectives)
    words = {x: said_in.get(x, x if x in given else class_word) for x in MS_HEADERS}
    own = {xarg: word for xarg, word in words.items() if word is not None}
    return Stated(xargs, slo, tenant, foreign, slo_class, own)


def _numbers(headers: Mapping[str, str]) -> dict[str, tuple[str, float]]:
    """Per field of MS_HEADERS: the header that states it, and its value (ms). Raises SloError."""
    found: dict[str, tuple[str, float]] = {}
    for xarg, names in MS_HEADERS.items():
        name = next((n for n in names if n in headers), None)
        if name is not None:
            # Proxies merge repeated headers with a comma; the first one counts then, too.
            value = headers[name].split(",", 1)[0].strip()
            parse_ms(name, value)
            found[xarg] = name, float(value)
    return found


def _check_allowed(slo: Slo, slo_class: str, xargs: Mapping[str, object], rules: SloRules) -> None:
    """Its class, and numbers that are no tighter than it. Raises NotAllowedError."""
    if slo_class and rules.allowed is not None and slo_class not in rules.allowed:
        valid = ", ".join(sorted(rules.allowed)) or "none"
        raise NotAllowedError(XARG_CLASS, f"this key may not use {slo_class!r}; allowed: {valid}")
    if rules.raw_slo == "any":
        return
    base = rules.book.classes[slo_class].slo if slo_class else rules.book.default
    for name, asked_s, class_s in (
        ("slo_ttft_ms", slo.ttft_s, base.ttft_s),
        ("slo_tpot_ms", slo.tpot_s, base.tpot_s),
        ("slo_e2el_ms", slo.e2e_s, base.e2e_s),
    ):
        if name in xargs and rules.raw_slo == "none":
            raise NotAllowedError(name, "this key may not state numbers: name a class")
        if asked_s < class_s:
            least = f"{class_s * 1e3:g} ms" if math.isfinite(class_s) else "none, as its class"
            raise NotAllowedError(name, f"must be no tighter than the class: {least}")


def _on_miss(raw: str) -> str:
    try:
        return parse_on_miss({XARG_ON_MISS: raw}, OnMiss.REJECT).value
    except SloError as error:
        raise SloError(ON_MISS_HEADER, error.message) from None


def _class_named(
    headers: Mapping[str, str],
    body: Mapping[str, object],
    given: Mapping[str, object],
    rules: SloRules,
) -> tuple[str, str] | None:
    """The class named outside `vllm_xargs` and the header or field that names it, or None.
    Objectives belong to the router in front: one that is not ours is no class and no error, as in
    llm-d itself."""
    for header in CLASS_HEADERS:
        name = headers.get(header)
        if name is not None and name in rules.book.classes:
            return name, header
    tier = body.get(TIER_FIELD)
    if XARG_CLASS in given or not isinstance(tier, str):
        return None
    # OpenAI's own values must stay usable on a server without such a class.
    mapped = rules.tiers.get(tier)
    if mapped is None or mapped not in rules.book.classes:
        return None
    return mapped, TIER_FIELD


def _tenant(
    headers: Mapping[str, str],
    body: Mapping[str, object],
    given: Mapping[str, object],
    rules: SloRules,
    account: str,
) -> str:
    """Who pays for it: the account whose key was checked, and within it the name that the client
    gives itself."""
    field = next((name for name in TENANT_HEADERS if headers.get(name)), None)
    if field is not None and rules.trust_fairness_id:
        account = "+".join(filter(None, (account, quote(_name(field, headers[field]), safe=""))))
        field = None
    if field is not None:
        return tenant_id(account, _name(field, headers[field]))
    if given.get(XARG_TENANT) is not None:
        return tenant_id(account, _name(XARG_TENANT, given[XARG_TENANT]))
    user = body.get("user")
    return tenant_id(account, _name("user", user) if isinstance(user, str) else "")


def _name(field: str, raw: object) -> str:
    if not isinstance(raw, str):
        raise SloError(field, "must be a string")
    if len(raw) > MOST_NAME_CHARS:
        raise SloError(field, f"must have at most {MOST_NAME_CHARS} characters")
    return raw
