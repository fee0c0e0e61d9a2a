"""Is slack the time until the next token is due?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorpio.core.request import RequestView
from scorpio.core.slack import (
    binding_target_s,
    decode_slack_s,
    least_slack_s,
    likely_late,
    step_start_s,
)
from scorpio.core.slo import NO_SLO, Slo
from tests.conformance.snapshots import Row, running_batch


def row(slot: int, slo: Slo, output_tokens: int) -> Row:
    view = RequestView(f"r{slot}", slot, 10.0, 100, 4000, slo)
    return Row(view, slot, False, 100 + output_tokens, 100, output_tokens)


def test_a_step_starts_when_the_one_before_it_ends() -> None:
    assert step_start_s(5.0, math.nan, 0.03) == 5.0
    assert step_start_s(5.0, 4.99, 0.03) == pytest.approx(5.02)
    assert step_start_s(5.0, 4.9, 0.03) == 5.0  # it takes longer than predicted


def test_next_token_is_due_one_target_per_token_after_the_first() -> None:
    # The first token came at 10.1. Four are out: the fifth is due at 10.1 + 4 * 0.05 = 10.3.
    batch = running_batch([row(0, Slo(1.0, 0.05), 4), row(1, NO_SLO, 4), row(2, Slo(1.0, 0.03), 4)])
    slack_s = decode_slack_s(batch, np.array([0, 1, 2]), batch.tpot_slo_s, 10.25)
    assert slack_s == pytest.approx([0.05, math.inf, -0.03])


def test_a_first_token_in_flight_counts_from_the_start_of_the_step() -> None:
    batch = running_batch([row(0, Slo(1.0, 0.05), 1)])
    batch.first_token_s[0] = math.nan
    assert decode_slack_s(batch, slice(None), batch.tpot_slo_s, 77.0) == pytest.approx([0.05])


def test_only_those_that_can_still_be_on_time_bind_the_others() -> None:
    # Sent at 10.0, first token at 10.1: in time for 0.1 s, not for 0.09 s; one has not come yet.
    slos = (Slo(0.1, 0.05), Slo(0.09, 0.05), Slo(0.5, 0.03), Slo(math.inf, 0.02))
    batch = running_batch([row(slot, slo, 4) for slot, slo in enumerate(slos)])
    batch.first_token_s[2:] = math.nan
    assert binding_target_s(batch, 10.4).tolist() == [0.05, math.inf, 0.03, 0.02]
    assert binding_target_s(batch, 10.6).tolist() == [0.05, math.inf, math.inf, 0.02]


def test_the_hopeless_do_not_hold_back_the_others() -> None:
    slack_s = np.array([-0.2, 0.004, 0.02, 0.5])
    assert least_slack_s(slack_s, 0.005) == 0.02
    assert least_slack_s(slack_s[:2], 0.005) == math.inf
    assert least_slack_s(slack_s[:0], 0.005) == math.inf


def test_a_late_end_counts_by_its_value() -> None:
    # Both get their token 10 ms late, regain 1 ms with each, and have 100 to come: 0.1 each.
    slack_s, recovery_s = np.array([0.02, 0.02]), np.array([0.001, 0.001])
    assert likely_late(slack_s, recovery_s, 0.03, 100.0) == pytest.approx(0.2)
    worth = np.array([4.0, 1.0])
    assert likely_late(slack_s, recovery_s, 0.03, 100.0, worth) == pytest.approx(0.5)
