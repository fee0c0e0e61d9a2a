"""Is Ray's policy one that Ray takes, and does it do what the fronts want?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from scorpio.core.routing.load import RoutedRequest
from scorpio.core.slo import Slo
from scorpio.fleet import build_app
from scorpio.fleet.app import FrontDeployment
from scorpio.fleet.registry import FORGET_S, Registry
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


class Traffic:
    """Of one front whose replicas all serve, looked at twice a second."""

    def __init__(self, serving: int = 1, **told: Any) -> None:
        told = {"replicas": 1, "max_replicas": 12} | told
        self.wanted = Wanted(FleetSettings(model="m", **told))
        self.view, self.now_s, self._seq = view(serving), 0.0, 0

    def come(
        self, per_s: float, for_s: float = 600.0, prompt: int = 1000, tpot_s: float = 0.05
    ) -> int | None:
        """Equal requests, all served. Returns what is wanted then."""
        begin_s, due = self.now_s, 0.0
        while self.now_s < begin_s + for_s:
            due += 0.5 * per_s
            for _ in range(int(due)):
                self._seq += 1
                made = RoutedRequest(self._seq, self.now_s, prompt, Slo(1.0, tpot_s), 100.0)
                self.wanted.asked(self.view, made)(self.now_s)
            due -= int(due)
            self.now_s += 0.5
            self.wanted.look(self.view, self.now_s)
        return self.wanted.replicas


def test_a_front_wants_more_for_more() -> None:
    few, many = Traffic().come(1.0), Traffic().come(20.0)
    assert few == 1
    assert many is not None
    assert 2 <= many <= 12
    assert Traffic(fronts=2).come(10.0) == many  # it sees half of what comes
    among_two = Traffic()
    among_two.wanted.fronts = 2  # so the registry says
    assert among_two.come(10.0) == many


def test_few_large_requests_are_no_crowd() -> None:
    """One in 100 s, of one second: a hundredth of a replica, however soon after it one looks."""
    assert Traffic().come(0.01, prompt=20_000) == 1


def test_when_all_has_stopped_the_least_is_wanted() -> None:
    traffic = Traffic()
    many = traffic.come(20.0)
    assert many is not None
    assert many > 1
    assert traffic.come(0.0, for_s=1200.0) == 1


def test_a_front_that_starts_again_keeps_the_fleet() -> None:
    traffic = Traffic(serving=5)
    assert traffic.come(0.0, for_s=29.0) is None  # it has not looked yet
    assert traffic.come(0.0, for_s=270.0) == 5
    assert traffic.come(0.0) == 1


def test_a_cold_start_cancels_none_of_those_that_load() -> None:
    traffic = Traffic(replicas=4, min_replicas=1)
    assert traffic.come(0.1, for_s=200.0) == 4
    traffic.view = view(4)
    assert traffic.come(0.1) == 1


def test_only_what_a_replica_holds_counts_of_a_prompt() -> None:
    """As many tokens as a body of megabytes may have; a replica holds 100,000."""
    assert Traffic().come(0.2, prompt=10_000_000) == Traffic().come(0.2, prompt=100_000)


def test_what_no_number_of_replicas_keeps_wants_none() -> None:
    assert Traffic().come(20.0, tpot_s=0.009) == 1


def test_what_was_not_taken_for_work_counts_for_nothing() -> None:
    traffic = Traffic()
    for seq in range(10_000):
        traffic.wanted.asked(traffic.view, RoutedRequest(seq, 0.0, 1000, Slo(1.0, 0.05), 100.0))
    assert traffic.come(0.0) == 1


def test_without_bounds_nothing_is_wanted() -> None:
    assert Traffic(max_replicas=None).come(5.0) is None


def test_the_registry_counts_fronts_and_forgets_who_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr("scorpio.fleet.registry.time.monotonic", lambda: now_s)
    registry = Registry()
    assert registry.wants("a", None) == 1
    assert registry.wanted() is None
    assert registry.wants("b", 4) == 2
    assert registry.wants("a", 3) == 2
    registry.beat("one", "http://one")
    now_s += FORGET_S + 1.0
    assert registry.wants("b", 2) == 1
    assert registry.wanted() == 2
    assert registry.replicas() == {}
    assert not registry._seen  # not kept for ever


class _Remote:
    """Of an actor: one method, called at once."""

    def __init__(self, method: Any) -> None:
        self._method = method

    async def remote(self, *args: Any) -> Any:
        return self._method(*args)


@pytest.mark.asyncio
async def test_a_front_learns_from_the_registry_how_many_there_are() -> None:
    registry = Registry()
    registry.wants("another", None)
    deployment = FrontDeployment.__new__(FrontDeployment)
    deployment._settings = FleetSettings(model="m", replicas=1, max_replicas=4)
    deployment._registry = SimpleNamespace(
        wants=_Remote(registry.wants), replicas=_Remote(registry.replicas)
    )
    deployment._name = "this one"
    front = deployment.__serve_build_asgi_app__()
    assert await deployment._known() == {}
    assert front._wanted.fronts == 2
