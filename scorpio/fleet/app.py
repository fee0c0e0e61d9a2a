"""Which parts make a fleet on Ray Serve? N replicas, those of a fallback, and the front that
routes to them.

`scorpio.fleet:build_app` in a Serve config file, or `scorpio serve MODEL --replicas N`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorpio.fleet.front import Front
from scorpio.fleet.on_ray import serve
from scorpio.fleet.registry import Address, registry_of
from scorpio.fleet.replica import STOP_S, EngineReplica
from scorpio.fleet.scaling import autoscaling_config
from scorpio.fleet.settings import SERVED_NAME, FleetSettings, fleet_settings

FRONT = "Front"
REPLICA = "Replica"
FALLBACK = "Fallback"
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 3.0, 6.0
MOST_AT_ONCE = 1 << 16  # requests of one front; its own bound is most_in_flight
_FOR_REPLICAS = {
    *("model", "serve_args", "slo_config", "log_dir", "run_dir", "env", "drain_s", "start_s")
}
_FOR_FRONTS: dict[str, Any] = {
    **dict.fromkeys(("model", "router", "slo_config", "quiet_s", "lost_s"), True),
    "fallback": {"model", "name"},
}
# Where replicas follow promises, the fronts say how many.
_TO_FOLLOW = {
    *("fronts", "replicas", "min_replicas", "max_replicas", "target_attainment", "warm_up_s")
}


class FrontDeployment:
    """A deployment of Ray Serve: one of these for each front. engines: keeps all of it together."""

    def __init__(self, raw: dict[str, Any], *engines: Any) -> None:
        self._settings, self._engines = fleet_settings(raw), engines
        context = serve().get_replica_context()
        self._registry, self._name = registry_of(context.app_name), context.replica_id.unique_id

    def __serve_build_asgi_app__(self) -> Front:
        self._front = Front(self._settings, self._known)
        return self._front

    async def _known(self) -> Mapping[str, Address]:
        if self._settings.max_replicas is not None:
            wanted = self._front.wanted_replicas
            self._front.among(await self._registry.wants.remote(self._name, wanted))
        found: Mapping[str, Address] = await self._registry.replicas.remote()
        return found


def build_app(args: dict[str, Any]) -> Any:
    """The Serve application. args: of `FleetSettings`. Raises SettingsError."""
    settings = fleet_settings(args)
    settings.read()
    engines = [_engines(REPLICA, settings, _number(settings))]
    if settings.fallback is not None:
        other = settings.of_fallback(settings.fallback)
        number = {"num_replicas": other.replicas}
        engines.append(_engines(FALLBACK, other, number, fallback=True))
    # Each part is told its own alone.
    more = {} if settings.max_replicas is None else dict.fromkeys(_TO_FOLLOW, True)
    told = settings.model_dump(mode="json", include=_FOR_FRONTS | more)
    told["serve_args"] = [SERVED_NAME, *settings.names]  # of it a front needs the names alone
    front = (
        serve()
        .deployment(serve().ingress()(FrontDeployment))
        .options(
            name=FRONT,
            num_replicas=settings.fronts,
            ray_actor_options={"num_cpus": 0},
            max_ongoing_requests=MOST_AT_ONCE,
            graceful_shutdown_timeout_s=settings.drain_s + STOP_S,
        )
    )
    return front.bind(told, *engines)


def _engines(name: str, settings: FleetSettings, number: dict[str, Any], **more: bool) -> Any:
    raw = settings.model_dump(mode="json", include=_FOR_REPLICAS)
    deployment = (
        serve()
        .deployment(EngineReplica)
        .options(
            name=name,
            **number,
            ray_actor_options=_resources(settings),
            health_check_period_s=HEALTH_PERIOD_S,
            health_check_timeout_s=HEALTH_TIMEOUT_S,
            graceful_shutdown_wait_loop_s=0.5,
            graceful_shutdown_timeout_s=settings.drain_s + 2 * STOP_S,
        )
    )
    return deployment.bind(raw, **more)


def _number(settings: FleetSettings) -> dict[str, Any]:
    if settings.max_replicas is None:
        return {"num_replicas": settings.replicas}
    bounds = (settings.least, settings.replicas, settings.most)
    return {"autoscaling_config": autoscaling_config(*bounds)}


def _resources(settings: FleetSettings) -> dict[str, Any]:
    return {"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica}
