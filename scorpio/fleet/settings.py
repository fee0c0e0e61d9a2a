"""What is asked of a fleet? The arguments of `build_app`, checked before anything is started."""

from __future__ import annotations

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
from scorpio.server.accounts.slo_config import read_slo_config
from scorpio.settings import CONFIG_KEY, ScorpioSettings, SettingsError, load_settings

DEFAULT_ROUTER = "promises"
Count = Annotated[int, Strict(), Field(ge=1, le=4096)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class FleetSettings(BaseModel):
    """serve_args: of `scorpio serve`, beside the model; each replica is started with them.

    slo_config: a file that is there on every node. fronts: processes that route; each knows what it
    sent itself. cpus_per_replica, gpus_per_replica: what Ray reserves. log_dir: of the replicas'
    logs; None = `scorpio-fleet` among temporary files. run_dir: in it each replica has a folder of
    its own, on its node, which stays when it ends; None = a temporary one. env: set for each.

    max_replicas: None = there are always `replicas`; else so many at most, as promises need them,
    `min_replicas` at least (None = `replicas`), to keep `target_attainment` of the requests;
    warm_up_s: from the order of a replica to its first request.

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

    @property
    def least(self) -> int:
        """Replicas that there always are."""
        return self.replicas if self.min_replicas is None else self.min_replicas

    @property
    def most(self) -> int:
        """Replicas that there may be."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    @property
    def autoscale(self) -> AutoscaleOptions | None:
        """How replicas follow promises; None: they do not."""
        if self.max_replicas is None:
            return None
        target, warm_up_s = self.target_attainment, self.warm_up_s
        bounds = {"min_replicas": self.least, "max_replicas": self.most}
        return AutoscaleOptions(target, warm_up_s, **bounds)

    def scorpio(self) -> ScorpioSettings:
        """What a replica is told of SLOs. Raises SettingsError."""
        table = {} if self.slo_config is None else read_slo_config(self.slo_config)
        return load_settings({CONFIG_KEY: table})


def fleet_settings(raw: dict[str, Any]) -> FleetSettings:
    """Raises SettingsError: one line, every problem with its field."""
    try:
        return FleetSettings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("; ".join(_problem(entry) for entry in error.errors())) from None


def _problem(entry: Any) -> str:
    place = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        return f"{place}: unknown; valid: {', '.join(FleetSettings.model_fields)}"
    return f"{place + ': ' if place else ''}{str(entry['msg']).removeprefix('Value error, ')}"
