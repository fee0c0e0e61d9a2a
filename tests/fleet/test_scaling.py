"""Is Ray's policy one that Ray takes, and does it do what the fronts want?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from scorpio.core.routing.load import RoutedRequest
from scorpio.core.slo import Slo
from scorpio.fleet import build_app
from scorpio.fleet.registry import Registry
from scorpio.fleet.scaling import WANTED, PromisesPolicy, autoscaling_config
from scorpio.fleet.settings import FleetSettings, fleet_settings
from scorpio.fleet.wanted import Wanted
from scorpio.settings import SettingsError
from tests.core.routing.fleets import view

pytest.importorskip("ray")
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy


def context(told: Mapping[str, Sequence[tuple[float, float]]], target: int = 3) -> Any:
    """As Ray's controller makes it. told: of each replica, (when, wanted)."""
    ours = DeploymentID(name="Replica", app_name="scorpio")
    series = {
        ReplicaID(name, ours): [TimeStampedValue(at_s, value) for at_s, value in values]
        for name, values in told.items()
    }
    return AutoscalingContext(
        deployment_id=ours, deployment_name="Replica", app_name="scorpio",
        current_num_replicas=target, target_num_replicas=target, running_replicas=[],
        total_num_requests=0.0, total_queued_requests=0.0, aggregated_metrics={},
        raw_metrics={WANTED: series} if told else {}, capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=9, policy_state={}, last_scale_up_time=None,
        last_scale_down_time=None, current_time=0.0,
        config=AutoscalingConfig(**autoscaling_config(1, 3, 9)),
    )  # fmt: skip


def as_ray_calls_it() -> Any:
    config = AutoscalingConfig(**autoscaling_config(1, 3, 9))
    assert (config.upscale_delay_s, config.downscale_delay_s) == (0.0, 0.0)
    return _apply_autoscaling_config(_resolve_policy_callable(config.policy))


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, 3),  # as many as there are to be, while nothing was said
        ({"a": [(1.0, 5.0), (2.0, 7.0)], "b": [(1.5, 2.0)]}, 7),  # the newest word counts
        ({"a": [(1.0, 7.0)], "b": [(2.0, 2.0)]}, 2),
        ({"a": [(1.0, 99.0)]}, 9),
    ],
)
def test_ray_does_at_once_what_the_fronts_want(told: Any, wanted: int) -> None:
    assert as_ray_calls_it()(context(told))[0] == wanted


def test_ray_takes_the_class_itself_too() -> None:
    bounds = {"min_replicas": 2, "max_replicas": 4}
    policy = AutoscalingPolicy(policy_function=PromisesPolicy, policy_kwargs=bounds)
    assert _resolve_policy_callable(policy)(context({"a": [(1.0, 1.0)]}))[0] == 2
    with pytest.raises(ValueError, match="min_replicas <= max_replicas"):
        PromisesPolicy(3, 2)


def test_the_app_is_scaled_when_asked() -> None:
    app = build_app({"model": "m", "replicas": 2, "min_replicas": 1, "max_replicas": 6})
    told, engines = app._bound_deployment.init_args
    config = engines._bound_deployment._deployment_config.autoscaling_config
    assert (config.min_replicas, config.initial_replicas, config.max_replicas) == (1, 2, 6)
    assert fleet_settings(told).autoscale is not None
    assert fleet_settings({"model": "m"}).autoscale is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"min_replicas": 1}, "min_replicas: only with max_replicas"),
        ({"replicas": 4, "max_replicas": 3}, "min_replicas <= replicas <= max_replicas, got 4, 4"),
        ({"max_replicas": 3, "target_attainment": 97}, "target_attainment: "),
        ({"max_replicas": 3, "warm_up_s": 0}, "warm_up_s: "),
    ],
)
def test_wrong_bounds_are_told(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        fleet_settings({"model": "m"} | wrong)
    assert str(caught.value).startswith(said)


def test_the_most_that_a_front_wants_counts() -> None:
    registry = Registry()
    assert registry.wanted() is None
    registry.wants("a", 3)
    registry.wants("b", 5)
    registry.wants("b", 2)
    assert registry.wanted() == 3


def offered(per_s: float, fronts: int = 1) -> int | None:
    """Wanted after ten minutes of equal requests."""
    settings = FleetSettings(model="m", replicas=1, max_replicas=12, fronts=fronts)
    wanted, fleet = Wanted(settings), view(1)
    gap_s = 1.0 / per_s
    for seq in range(int(600 * per_s)):
        now_s = seq * gap_s
        request = RoutedRequest(seq, now_s, 1000, Slo(1.0, 0.05), 100.0)
        wanted.note(fleet, request, now_s)
        wanted.look(fleet, now_s)
    return wanted.replicas


def test_a_front_wants_more_for_more() -> None:
    few, many = offered(1.0), offered(20.0)
    assert few == 1
    assert many is not None
    assert 2 <= many <= 12
    assert offered(10.0, fronts=2) == many  # it sees half of what comes


def test_without_bounds_nothing_is_wanted() -> None:
    wanted = Wanted(FleetSettings(model="m"))
    wanted.look(view(1), 100.0)
    assert wanted.replicas is None
