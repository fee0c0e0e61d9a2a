"""Are policies found by exact name, and are wrong options told apart by name?"""

from __future__ import annotations

import math

import pytest

from scorpio.core.plan import STOCK_STEP
from scorpio.core.policies.paper.options import PaperOptions
from scorpio.core.registry import PolicyInputs, make_policy, policy_names
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from tests.conformance.snapshots import (
    NOW_S,
    PROFILES,
    Row,
    Scene,
    limits,
    policy_for,
    snapshot,
)


def test_names_are_sorted_and_hold_the_baseline_and_the_paper() -> None:
    assert list(policy_names()) == sorted(policy_names())
    assert {"fcfs", "scorpio-paper"} <= set(policy_names())


@pytest.mark.parametrize("name", ["", "FCFS", "scorpio_paper", "fcfs ", "ldf_rej_credit"])
def test_unknown_name_lists_the_valid_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"valid: .*fcfs.*scorpio-paper"):
        make_policy(name, PolicyInputs(PROFILES["a100"], limits()))


def test_fcfs_is_stock_and_says_so() -> None:
    policy = policy_for("fcfs", limits())
    assert policy.passive
    assert policy.plan(NOW_S, snapshot(policy, Scene(limits(), (), ()))) is STOCK_STEP


def test_published_defaults() -> None:
    assert PaperOptions.parse("scorpio-paper", {}) == PaperOptions(1.3, 0.99, 0.05, 1.0)


def test_unknown_option_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"no option kapa; valid: kappa, safety, ttft_margin_s"):
        PaperOptions.parse("scorpio-paper", {"kapa": 1.3})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kappa", 0.99),
        ("kappa", math.nan),
        ("kappa", math.inf),
        ("kappa", True),
        ("kappa", "1.3"),
        ("safety", 0.0),
        ("safety", 1.01),
        ("ttft_margin_s", -0.001),
        ("best_effort_tpot_s", 0.0),
    ],
)
def test_bad_value_names_its_option_and_range(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"option {option} must be in \["):
        make_policy("scorpio-paper", PolicyInputs(PROFILES["a100"], limits(), {option: value}))


def test_options_reach_the_policy() -> None:
    """kappa 1.0 admits a batch that kappa 1.3 turns away."""
    slo = Slo(9.0, 0.0156)
    views = [RequestView(f"r{i}", i, NOW_S, 100, 50, slo) for i in range(5)]
    running = tuple(Row(views[i], i, False, 500, 100, 9) for i in range(4))
    scene = Scene(limits(), running, ((views[4], False),))
    admitted = []
    for kappa in (1.0, 1.3):
        inputs = PolicyInputs(PROFILES["a100"], limits(), {"kappa": kappa})
        policy = make_policy("scorpio-paper", inputs)
        admitted.append(list(policy.plan(NOW_S, snapshot(policy, scene)).admit or ()))
    assert admitted == [["r4"], []]
