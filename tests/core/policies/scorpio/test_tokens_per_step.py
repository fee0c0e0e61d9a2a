"""Drafts that are accepted: is a TPOT SLO then one of fewer steps, and nothing else?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.step_decodes import step_decodes
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import (
    PROFILES,
    Row,
    Scene,
    drafts,
    policy_for,
    running_batch,
    scenes,
    snapshot,
)
from tests.core.policies.scorpio.step_scenes import START_S, step_of

MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 1e-5)
MOST = 4  # drafts, always accepted: 1 + 4 * SURE tokens a step
EACH = 4.0  # a power of two: products are exact


def decode(slot: int, tpot_s: float, output: int = 50) -> Row:
    view = RequestView(f"r{slot}", slot, START_S - 1.0, 50, 200, Slo(5.0, tpot_s))
    return Row(view, slot, False, 100, 100, output)


def seen_of(rows: tuple[Row, ...], drafting: bool) -> Snapshot:
    limits = EngineLimits(8, 2048, 80_000, 16, 4096)
    made = Snapshot(running_batch(rows), WaitingTable(), limits, 80_000)
    made.drafts = drafts(rows, MOST, 1.0) if drafting else None
    return made


def test_a_token_is_due_as_before_and_steps_may_be_longer() -> None:
    rows = (decode(0, 0.02), decode(1, 0.3))
    one, two = (step_decodes(MODEL, seen_of(rows, drafting), START_S) for drafting in (False, True))
    assert two.slack_s.tolist() == one.slack_s.tolist()
    assert (one.tightest_s, two.tightest_s) == (0.02, 0.02 * EACH)
    assert two.slo_s.tolist() == pytest.approx([0.02 * EACH, 0.3 * EACH])
    assert one.slo_s.tolist() == pytest.approx([0.02, 0.3])
    assert (one.tokens, two.tokens, two.draft_tokens) == (2, 2 + 2 * MOST, 2 * MOST)
    assert two.alone_s == pytest.approx(one.alone_s + 2 * MOST * 0.001)


def test_a_target_that_steps_would_miss_is_kept_with_drafts() -> None:
    newcomer = RequestView("new", 9, START_S, 50, 200, Slo(5.0, 0.0125))
    rows = tuple(decode(slot, 1.0) for slot in range(4))  # 15 ms a step and more
    assert not Admission(step_of(MODEL, seen_of(rows, False))).keeps_target(newcomer)
    assert Admission(step_of(MODEL, seen_of(rows, True))).keeps_target(newcomer)


def test_a_forecast_is_of_tokens() -> None:
    rows = tuple(decode(slot, 1.0) for slot in range(4))
    told_s = Admission(step_of(MODEL, seen_of(rows, True))).tpot_s()
    assert told_s == pytest.approx(MODEL.step_s(4, 400) / (1 + MOST))


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(scenes())
def test_drafts_that_are_never_accepted_change_no_target(drawn: Scene) -> None:
    """However large the batch: none is verified, and each needs a step as often as without."""
    without = snapshot(policy_for("scorpio", drawn.limits), replace(drawn, drafter=None))
    seen = replace(without, drafts=drafts(drawn.running, 3, 0.0))
    for model in (MODEL, PROFILES["a100"].step):
        one, two = (step_decodes(model, which, START_S) for which in (without, seen))
        assert two.slo_s.tolist() == one.slo_s.tolist()
        assert (two.tightest_s, two.alone_s, two.tokens) == (
            one.tightest_s,
            one.alone_s,
            one.tokens,
        )
