"""What did the operator configure? One model, read from vLLM's `additional_config["scorpio"]`.

It is the only settings channel that reaches both processes of a vLLM server (the API process and
EngineCore), so both parse it; an unknown key is an error that names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from scorpio import channel
from scorpio.core.latency import LatencyProfile
from scorpio.core.registry import DEFAULT_POLICY, check_policy
from scorpio.core.slo import MAX_SLO_MS, NO_SLO, Offer, OnMiss, Slo, SloBook, SloClass
from scorpio.policy_packages import all_policies
from scorpio.tenant_settings import RawSlo, TenantSettings, check_tenants

CONFIG_KEY = "scorpio"
Number = Annotated[float, Strict()]  # a text of digits is no number
Whole = Annotated[int, Strict()]
DEFAULT_MOST_CHOICES = 128  # of one request (`n`, `best_of`); OpenAI's own bound
STOCK = "fcfs"  # the policy that leaves every step to vLLM
NO_CLASS = "none"  # the label of requests of no class
DEFAULT_LEDGER_MIB = 64.0  # of one engine's ledger, about 80,000 requests; 0 = none is kept
MAX_VALUE = 1e6  # of a class; more is a typing error
DEFAULT_TIERS = {
    "priority": "interactive",
    "default": "standard",
    "auto": "standard",
    "flex": "batch",
}


class SettingsError(ValueError):
    """Bad configuration; one line per problem, each naming its field."""


class ClassSettings(BaseModel):
    """One named SLO class, in milliseconds; an absent objective means no promise.

    value: what a kept promise is worth, as a multiple of an ordinary request. target: the share of
    its requests that are to keep their SLO; what may miss it is the error budget. fallback: served
    name of the cheaper deployment of a fleet that may take what the first cannot keep;
    fallback_share: the largest share of the class's requests that it serves, None = all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttft_ms: Number | None = Field(default=None, gt=0, le=MAX_SLO_MS, allow_inf_nan=False)
    tpot_ms: Number | None = Field(default=None, gt=0, le=MAX_SLO_MS, allow_inf_nan=False)
    e2el_ms: Number | None = Field(default=None, gt=0, le=MAX_SLO_MS, allow_inf_nan=False)
    on_miss: OnMiss = OnMiss.REJECT
    value: Number = Field(default=1.0, gt=0, le=MAX_VALUE, allow_inf_nan=False)
    target: Number | None = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    fallback: Annotated[str, Strict(), Field(min_length=1, max_length=256)] | None = None
    fallback_share: Number | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)

    @model_validator(mode="after")
    def _share_of_a_fallback(self) -> ClassSettings:
        if self.fallback_share is not None and self.fallback is None:
            raise ValueError("fallback_share: only with fallback")
        return self

    def slo(self) -> Slo:
        """The class as core sees it (seconds)."""
        ttft_s, tpot_s, e2e_s = (
            math.inf if value is None else value / 1000.0
            for value in (self.ttft_ms, self.tpot_ms, self.e2el_ms)
        )
        return Slo(ttft_s, tpot_s, e2e_s, self.on_miss, self.value)


class ScorpioSettings(BaseModel):
    """All settings of the scheduler and the middleware; see docs/configure.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str = DEFAULT_POLICY
    policy_options: dict[str, float] = Field(default_factory=dict)
    shadow: str | None = None
    shadow_options: dict[str, float] = Field(default_factory=dict)
    shadow_most_share: Number = Field(default=0.05, gt=0, le=1, allow_inf_nan=False)
    slo_config: str | None = None
    latency: dict[str, Any] | None = None
    latency_facts: dict[str, str] = Field(default_factory=dict)  # of that profile, for people
    length_model: str | None = None
    classes: dict[str, ClassSettings] = Field(default_factory=dict)
    default_class: str | None = None
    service_tiers: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_TIERS))
    least_ttft_ms: Number = Field(default=0.0, ge=0, le=MAX_SLO_MS, allow_inf_nan=False)
    least_tpot_ms: Number = Field(default=0.0, ge=0, le=MAX_SLO_MS, allow_inf_nan=False)
    raw_slo: RawSlo = "any"
    tight_ttft_ms: Number = Field(default=0.0, ge=0, le=MAX_SLO_MS, allow_inf_nan=False)
    tight_tpot_ms: Number = Field(default=0.0, ge=0, le=MAX_SLO_MS, allow_inf_nan=False)
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    client_on_miss: frozenset[OnMiss] = frozenset(OnMiss)
    most_choices: Whole = Field(default=DEFAULT_MOST_CHOICES, ge=1)
    trust_fairness_id: bool = False
    isolate_cache: bool = False
    most_in_flight: Whole = Field(default=65_536, ge=1)
    most_in_flight_per_key: Whole = Field(default=16_384, ge=1)
    most_body_mib: Number = Field(default=64.0, gt=0, allow_inf_nan=False)
    most_held_mib: Number = Field(default=1024.0, gt=0, allow_inf_nan=False)
    most_connections: Whole | None = Field(default=None, ge=1)
    most_connections_per_address: Whole | None = Field(default=None, ge=1)
    most_header_kib: Whole = Field(default=256, ge=1, le=1 << 20)
    most_header_s: Number = Field(default=60.0, gt=0, allow_inf_nan=False)
    most_body_s: Number = Field(default=600.0, gt=0, allow_inf_nan=False)
    most_unread_s: Number = Field(default=60.0, gt=0, allow_inf_nan=False)
    most_request_s: Number = Field(default=0.0, ge=0, allow_inf_nan=False)
    most_waiting: Whole = Field(default=32_768, ge=1)
    most_waiting_tokens: Whole = Field(default=1 << 26, ge=1)
    most_in_flight_per_tenant: Whole = Field(default=16_384, ge=1)
    rejection_status: Literal[429, 503] = 429
    refusals_as_errors: bool = False
    unsupported: Literal["refuse", "passthrough"] = "refuse"
    run_dir: str | None = None
    open_status_page: bool = False
    ledger_mib: Number = Field(default=DEFAULT_LEDGER_MIB, ge=0, le=1 << 20, allow_inf_nan=False)
    stall_s: Number = Field(default=15.0, ge=1, le=3600, allow_inf_nan=False)
    breaker_limit: Whole = Field(default=20, ge=1)
    breaker_window_s: Number = Field(default=60.0, gt=0, allow_inf_nan=False)
    breaker_quiet_s: Number = Field(default=60.0, gt=0, allow_inf_nan=False)
    most_overhead: Number = Field(default=0.05, ge=0, le=1, allow_inf_nan=False)
    most_wrong_forecasts: Number = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)
    off_file: str | None = None
    canary: Number = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)

    @field_validator("policy", "shadow")
    @classmethod
    def _known_policy(cls, name: str | None) -> str | None:
        if name is not None and name not in all_policies():
            raise ValueError(f"unknown policy {name!r}; valid: {', '.join(all_policies())}")
        return name

    @field_validator("latency")
    @classmethod
    def _valid_latency(cls, raw: dict[str, Any] | None) -> dict[str, Any] | None:
        if raw is not None:
            LatencyProfile.from_dict(raw)
        return raw

    @model_validator(mode="after")
    def _policy_takes_its_options(self) -> ScorpioSettings:
        try:
            check_policy(self.policy, self.policy_options)
        except (ValueError, TypeError) as error:
            raise ValueError(f"policy_options: {error}") from None
        return self

    @model_validator(mode="after")
    def _shadow_has_something_to_say(self) -> ScorpioSettings:
        check_shadow(self.policy, self.policy_options, self.shadow, self.shadow_options)
        return self

    @model_validator(mode="after")
    def _default_class_exists(self) -> ScorpioSettings:
        if self.default_class is not None and self.default_class not in self.classes:
            valid = ", ".join(sorted(self.classes)) or "none are configured"
            raise ValueError(f"default_class {self.default_class!r} is not a class; valid: {valid}")
        return self

    @model_validator(mode="after")
    def _classes_are_offered(self) -> ScorpioSettings:
        for name, entry in self.classes.items():
            for field, least in (
                ("ttft_ms", "least_ttft_ms"),
                ("tpot_ms", "least_tpot_ms"),
                ("e2el_ms", "least_ttft_ms"),
            ):
                promised_ms, least_ms = getattr(entry, field), getattr(self, least)
                if promised_ms is not None and promised_ms < least_ms:
                    raise ValueError(
                        f"classes.{name}.{field} {promised_ms:g} is below {least} {least_ms:g}"
                    )
        return self

    @model_validator(mode="after")
    def _tenants_agree(self) -> ScorpioSettings:
        has_tight = bool(self.tight_ttft_ms or self.tight_tpot_ms)
        check_tenants(self.tenants, frozenset(self.classes), self.default_class, has_tight)
        return self

    def off_path(self) -> Path | None:
        """While this file is there the policy is off; None: there is no place for one."""
        if self.off_file is not None:
            return Path(self.off_file)
        return None if self.run_dir is None else Path(self.run_dir) / channel.OFF

    def slo_book(self) -> SloBook:
        """Named classes, the SLO of a request that names none, and what may be asked for."""
        classes = {name: SloClass(name, entry.slo()) for name, entry in self.classes.items()}
        default = NO_SLO if self.default_class is None else classes[self.default_class].slo
        offer = Offer(self.least_ttft_ms / 1000.0, self.least_tpot_ms / 1000.0)
        return SloBook(classes, default, offer)

    @property
    def unnamed_class(self) -> str:
        """The `slo_class` label of requests that name no class."""
        return self.default_class or NO_CLASS

    def profile(self) -> LatencyProfile | None:
        """The measured speed of this engine, when one was configured."""
        return None if self.latency is None else LatencyProfile.from_dict(self.latency)


def check_shadow(
    policy: str,
    options: Mapping[str, float],
    shadow: str | None,
    shadow_options: Mapping[str, float],
) -> None:
    """Could this policy be watched beside the one that serves? Raises ValueError."""
    if shadow is None:
        if shadow_options:
            raise ValueError("shadow_options: name the policy that they are of in `shadow`")
        return
    if shadow == STOCK:
        raise ValueError(f"shadow {shadow!r} refuses and holds none, so it has nothing to say")
    if (shadow, shadow_options) == (policy, options):
        raise ValueError(f"shadow {shadow!r} is the policy that serves; name another one")
    try:
        check_policy(shadow, shadow_options)
    except (ValueError, TypeError) as error:
        raise ValueError(f"shadow_options: {error}") from None


def load_settings(additional_config: object) -> ScorpioSettings:
    """Settings out of vLLM's `additional_config` (dict or an object that holds none).

    Raises:
        SettingsError: not a table, unknown key, or a value out of range (each named).
    """
    raw = additional_config.get(CONFIG_KEY, {}) if isinstance(additional_config, Mapping) else {}
    if not isinstance(raw, Mapping):
        raise SettingsError(f"additional_config.{CONFIG_KEY} must be a table")
    try:
        return ScorpioSettings.model_validate(dict(raw))
    except ValidationError as error:
        raise SettingsError("; ".join(p.told(CONFIG_KEY) for p in problems(error))) from None


class Problem(NamedTuple):
    """field: its path, () when the sentence itself begins with it."""

    field: tuple[str | int, ...]
    said: str

    def told(self, *above: str) -> str:
        """In one line. above: the tables that it stands in."""
        return f"{'.'.join(map(str, (*above, *self.field)))}: {self.said}"


def problems(error: ValidationError) -> list[Problem]:
    """What is wrong with settings. No value is repeated where it may be a secret."""
    return [
        Problem(tuple(p for p in found["loc"] if p != "[key]"), _said(found))
        for found in error.errors()
    ]


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        models: dict[object, type[BaseModel]] = {
            "classes": ClassSettings,
            "tenants": TenantSettings,
        }
        of = models.get(error["loc"][0], ScorpioSettings)
        return f"unknown; valid: {', '.join(of.model_fields)}"
    return str(error["msg"]).removeprefix("Value error, ")
