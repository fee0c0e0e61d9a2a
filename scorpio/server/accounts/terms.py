"""Under which terms is a request let in? One reading of the operator's settings, never changed.

A request keeps the terms that it came under; a new reading replaces the whole (reload.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scorpio.core.slo import Slo
from scorpio.core.wire import encode_slo
from scorpio.server.accounts.api_keys import ApiKeys
from scorpio.server.accounts.slo_config import SloFile, read_slo_file, slo_file_of
from scorpio.server.request.slo_headers import TENANT_HEADERS, SloRules
from scorpio.settings import ScorpioSettings
from scorpio.tenant_settings import TenantSettings

# What the engine reads once, at its start, and what its clients are attached with.
AT_START = (
    "most_waiting",
    "most_waiting_tokens",
    "most_in_flight_per_tenant",
    "ledger_mib",
    "isolate_cache",
)

DIGEST_CHARS = 12  # tell two SLO files apart


@dataclass(frozen=True, slots=True)
class Tenant:
    """rules: how its requests are read."""

    name: str
    settings: TenantSettings
    rules: SloRules


@dataclass(frozen=True, slots=True)
class Terms:
    """keys: None where only vLLM's own check counts. weighted: a tenant has a weight.
    tells_slo: the engine knows other classes, so each request's SLO is told. needs_restart:
    settings that are not in force yet. text, digest: of the SLO file, "" without one."""

    settings: ScorpioSettings
    rules: SloRules
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    keys: ApiKeys | None = None
    weighted: bool = False
    tells_slo: bool = False
    needs_restart: Sequence[str] = ()
    digest: str = ""
    text: str = field(default="", repr=False)

    @property
    def short_digest(self) -> str:
        """For logs, and for those that only ask whether two are the same."""
        return self.digest[:DIGEST_CHARS]

    def tenant_of(self, account: str, headers: Mapping[str, str]) -> Tenant | None:
        """The tenant of the SLO file: of the key, else the one that a trusted gateway names."""
        if not account and self.settings.trust_fairness_id:
            account = next((headers[name] for name in TENANT_HEADERS if headers.get(name)), "")
        return self.tenants.get(account)

    def rules_of(self, tenant: Tenant | None) -> SloRules:
        """How its requests are read."""
        return self.rules if tenant is None else tenant.rules

    def weight_of(self, tenant: Tenant | None) -> str:
        """For the engine; "" where no tenant has one. Without its own one counts 1."""
        own = None if tenant is None else tenant.settings.weight
        return repr(own or 1.0) if self.weighted else ""

    def slo_told(self, slo: Slo, slo_class: str) -> str:
        """For the engine; "" where it finds the same itself."""
        return encode_slo(slo, slo_class or self.settings.default_class or "") * self.tells_slo

    def is_tight(self, slo: Slo) -> bool:
        """The one definition of a tight request."""
        settings = self.settings
        # Divided as an SLO is: 0.07 s are not 70 ms to the last bit.
        ttft_s, tpot_s = settings.tight_ttft_ms / 1000.0, settings.tight_tpot_ms / 1000.0
        return min(slo.ttft_s, slo.e2e_s) <= ttft_s or slo.tpot_s <= tpot_s


@dataclass(frozen=True, slots=True)
class TermsSource:
    """Where terms come from. table: the settings that the server was started with; engine: the
    same, as the engine reads them. tokens: vLLM's own API keys."""

    table: Mapping[str, Any]
    engine: ScorpioSettings
    tokens: Sequence[str] = ()

    def read(self) -> Terms:
        """As the SLO file is now. Where there is one, its fields count, not those of the start.

        Raises:
            SettingsError: the file is bad.
        """
        if self.engine.slo_config is None:
            return make_terms(self.engine, self.engine, self.tokens)
        return self._of(read_slo_file(Path(self.engine.slo_config), self.table))

    def read_text(self, text: str) -> Terms:
        """As another process has read the file. Raises SettingsError."""
        path = Path(self.engine.slo_config or "")
        return self._of(slo_file_of(path, text.encode(), self.table))

    def _of(self, found: SloFile) -> Terms:
        made = make_terms(found.settings, self.engine, self.tokens)
        return replace(made, digest=found.digest, text=found.text)


def make_terms(
    settings: ScorpioSettings,
    engine: ScorpioSettings,
    tokens: Sequence[str] = (),
) -> Terms:
    """engine: what the engine was started with. tokens: vLLM's own API keys."""
    rules = SloRules(
        settings.slo_book(),
        settings.service_tiers,
        settings.client_on_miss,
        settings.most_choices,
        settings.trust_fairness_id,
        raw_slo=settings.raw_slo,
    )
    has_keys = any(tenant.keys for tenant in settings.tenants.values())
    return Terms(
        settings,
        rules,
        {name: _tenant(name, entry, rules) for name, entry in settings.tenants.items()},
        ApiKeys(settings.tenants, tokens) if has_keys else None,
        any(tenant.weight is not None for tenant in settings.tenants.values()),
        _classes(settings) != _classes(engine),
        [name for name in AT_START if getattr(settings, name) != getattr(engine, name)],
    )


def _tenant(name: str, entry: TenantSettings, rules: SloRules) -> Tenant:
    """A list of classes that numbers could get around would be none."""
    raw_slo = entry.raw_slo or (rules.raw_slo if entry.classes is None else "looser")
    own = replace(rules, allowed=entry.classes, own_class=entry.default_class, raw_slo=raw_slo)
    return Tenant(name, entry, own)


def _classes(settings: ScorpioSettings) -> object:
    return settings.slo_book(), settings.default_class
