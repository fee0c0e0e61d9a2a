"""What is asked of a fleet? The arguments of `build_app`, checked before anything is started."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from scorpio.core.routing.autoscale import AutoscaleOptions
from scorpio.core.routing.registry import ROUTERS
from scorpio.server.accounts.slo_config import read_slo_file
from scorpio.server.accounts.terms import DIGEST_CHARS
from scorpio.server.launch.typed import values_after, without
from scorpio.settings import CONFIG_KEY, ScorpioSettings, SettingsError, load_settings

DEFAULT_ROUTER = "promises"
Count = Annotated[int, Strict(), Field(ge=1, le=4096)]
SERVED_NAME = "--served-model-name"
_OF_THE_MODEL = (
    *(SERVED_NAME, "--latency", "--length-model", "--enable-lora", "--lora-modules"),
    *("--quantization", "-q", "--revision", "--tokenizer", "--tokenizer-revision"),
)
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class FallbackSettings(BaseModel):
    """The cheaper deployment, which classes may fall back to. name: under which it is served, None
    = its model. serve_args: of `scorpio serve`, beside the fleet's (of a repeated one the last
    counts); what concerns the first model alone (`_OF_THE_MODEL`) is not passed on to it.
    gpus_per_replica: None = as the fleet's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    replicas: Count = 1
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    serve_args: tuple[str, ...] = ()
    gpus_per_replica: Annotated[float, Field(ge=0)] | None = None


class FleetSettings(BaseModel):
    """serve_args: of `scorpio serve`, beside the model; each replica is started with them.

    slo_config: a file that is there on every node. fronts: processes that route; each knows what it
    sent itself. cpus_per_replica, gpus_per_replica: what Ray reserves. log_dir: of the replicas'
    logs; None = `scorpio-fleet` among temporary files. run_dir: in it each replica has a folder of
    its own, on its node, which stays when it ends; None = a temporary one. env: set for each.

    max_replicas: None = there are always `replicas`; else so many at most, as promises need them,
    `min_replicas` at least (None = `replicas`), to keep `target_attainment` of the requests;
    warm_up_s: from the order of a replica to its first request.

    fallback: None = one deployment.

    quiet_s: a replica that has said nothing for so long gets no new requests; lost_s: what it has
    in work is given up as well. drain_s: for requests in work when a replica is taken away.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    replicas: Count = 2
    min_replicas: Count | None = None
    max_replicas: Count | None = None
    target_attainment: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.97
    warm_up_s: Seconds = 100.0
    fallback: FallbackSettings | None = None
    router: str = DEFAULT_ROUTER
    serve_args: tuple[str, ...] = ()
    slo_config: Path | None = None
    fronts: Annotated[int, Strict(), Field(ge=1, le=256)] = 1
    cpus_per_replica: Annotated[float, Field(ge=0)] = 1.0
    gpus_per_replica: Annotated[float, Field(ge=0)] = 0.0
    log_dir: Path | None = None
    run_dir: Path | None = None
    env: dict[str, str] = Field(default_factory=dict)
    quiet_s: Seconds = 2.0
    lost_s: Seconds = 4.0
    drain_s: Seconds = 30.0
    start_s: Seconds = 1800.0

    @field_validator("router")
    @classmethod
    def _known_router(cls, name: str) -> str:
        if name not in ROUTERS:
            raise ValueError(f"unknown router {name!r}; valid: {', '.join(ROUTERS)}")
        return name

    @model_validator(mode="after")
    def _in_order(self) -> FleetSettings:
        if self.max_replicas is None:
            if self.min_replicas is not None:
                raise ValueError("min_replicas: only with max_replicas")
        elif not self.least <= self.replicas <= self.max_replicas:
            raise ValueError(
                "min_replicas <= replicas <= max_replicas, got"
                f" {self.least}, {self.replicas}, {self.max_replicas}"
            )
        return self

    @model_validator(mode="after")
    def _two_names(self) -> FleetSettings:
        if self.fallback_name in self.names:
            raise ValueError(
                f"fallback.name: {self.fallback_name!r} is the first deployment's, too: give it"
                " another one"
            )
        if not (self.fallback_name.isascii() and self.fallback_name.isprintable()):
            raise ValueError("fallback.name: a header says it, so printable ASCII characters")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Under which the first deployment is served."""
        return values_after(SERVED_NAME, self.serve_args) or (self.model,)

    @property
    def fallback_name(self) -> str:
        """Under which the fallback is served; "": there is none."""
        one = self.fallback
        return "" if one is None else one.name or one.model

    def of_fallback(self, one: FallbackSettings) -> FleetSettings:
        """As its replicas are told. They are served under the first deployment's names, too, so
        that a request that falls back is passed on as it is; answers say their own."""
        kept = without(self.serve_args, _OF_THE_MODEL)
        named = (SERVED_NAME, self.fallback_name, *self.names)
        gpus = self.gpus_per_replica if one.gpus_per_replica is None else one.gpus_per_replica
        told = {
            "model": one.model,
            "replicas": one.replicas,
            "serve_args": (*kept, *one.serve_args, *named),
            "gpus_per_replica": gpus,
            "fallback": None,
        }
        return self.model_copy(update=told)

    @property
    def least(self) -> int:
        """Replicas that there always are."""
        return self.replicas if self.min_replicas is None else self.min_replicas

    @property
    def most(self) -> int:
        """Replicas of the first deployment that there may be."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    @property
    def autoscale(self) -> AutoscaleOptions | None:
        """How replicas follow promises; None: they do not."""
        if self.max_replicas is None:
            return None
        target, warm_up_s = self.target_attainment, self.warm_up_s
        bounds = {"min_replicas": self.least, "max_replicas": self.most}
        return AutoscaleOptions(target, warm_up_s, **bounds)

    @property
    def extra(self) -> int:
        """Replicas of the fallback."""
        return 0 if self.fallback is None else self.fallback.replicas

    def file_digest(self) -> str:
        """Which SLO file is on this node, as replicas tell theirs (server/state/load.py); "": none
        that can be read."""
        if self.slo_config is None:
            return ""
        try:
            raw = self.slo_config.read_bytes()
        except OSError:
            return ""
        return hashlib.sha256(raw).hexdigest()[:DIGEST_CHARS]

    def read(self) -> tuple[ScorpioSettings, str]:
        """What a replica is told of SLOs, and by which file (as `file_digest`). Raises
        SettingsError."""
        file = None if self.slo_config is None else read_slo_file(self.slo_config)
        told = load_settings({CONFIG_KEY: {} if file is None else dict(file.table)})
        for name, entry in told.classes.items():
            if entry.fallback not in (None, self.fallback_name):
                valid = self.fallback_name or "none; --fallback-model starts one"
                raise SettingsError(
                    f"{self.slo_config}: classes.{name}.fallback: {entry.fallback!r} is no"
                    f" deployment of this fleet; valid: {valid}"
                )
        return told, "" if file is None else file.digest[:DIGEST_CHARS]


def fallback_shares(told: ScorpioSettings) -> dict[str, float]:
    """Of each class that may fall back: the largest share of its requests."""
    return {
        name: 1.0 if entry.fallback_share is None else entry.fallback_share
        for name, entry in told.classes.items()
        if entry.fallback is not None
    }


def fleet_settings(raw: dict[str, Any]) -> FleetSettings:
    """Raises SettingsError: one line, every problem with its field."""
    try:
        return FleetSettings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("; ".join(_problem(entry) for entry in error.errors())) from None


def _problem(entry: Any) -> str:
    place = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        of = FallbackSettings if len(entry["loc"]) > 1 else FleetSettings
        return f"{place}: unknown; valid: {', '.join(of.model_fields)}"
    return f"{place + ': ' if place else ''}{str(entry['msg']).removeprefix('Value error, ')}"
