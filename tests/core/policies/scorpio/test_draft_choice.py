"""How many drafts of each are verified? By hand, on a step model of round numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.decodes import Decodes
from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.draft_choice import DraftChoice, choose_drafts
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, drafts, running_batch
from tests.core.policies.scorpio.step_scenes import START_S

# A token 0.1 ms, a token of context 0.1 us, 10 ms whatever is computed.
MODEL = StepModel(0.010, 1e-4, 1e-4, 1e9, 0.0, 0.0, 1e-7)
CHANCE = 0.5


def decode(slot: int, tpot_s: float, context: int) -> Row:
    view = RequestView(f"r{slot}", slot, START_S - 1.0, 50, 20_000, Slo(5.0, tpot_s))
    return Row(view, slot, False, context, context, 50)


def chosen(*rows: Row, most: int = 1, chance: float = CHANCE, at_hand: int = 9) -> DraftChoice:
    limits = EngineLimits(8, 2048, 800_000, 16, 40_000)
    seen = Snapshot(running_batch(rows), WaitingTable(), limits, 800_000)
    seen.drafts = drafts(rows, most, chance)
    seen.drafts = replace(seen.drafts, at_hand=np.minimum(seen.drafts.at_hand, at_hand))
    batch = Decodes.of(MODEL, seen.running)
    found = choose_drafts(MODEL, seen, batch, seen.running.tpot_slo_s, 1.0)
    assert found is not None
    return found


def test_where_nothing_is_urgent_a_draft_is_verified_if_it_makes_tokens_cheaper() -> None:
    # Alone 0.1 ms + 0.1 us of each context; a draft costs 0.1 ms and saves half of a step. That
    # pays from a context of 1,000 on: (0.2 + c) / 1.5 < 0.1 + c.
    found = chosen(decode(0, math.inf, 900), decode(1, math.inf, 1100))
    assert found.verified.tolist() == [0, 1]
    assert found.tokens == 1


def test_the_longer_the_context_the_more_drafts() -> None:
    found = chosen(*(decode(n, math.inf, c) for n, c in enumerate((100, 2000, 19_000))), most=4)
    assert found.verified.tolist() == sorted(found.verified.tolist())
    assert found.verified[0] == 0
    assert found.verified[2] > found.verified[1] > 0


def test_the_tightest_drafts_though_its_own_tokens_are_no_cheaper() -> None:
    """Else every step of the batch is short, and pays the fixed 10 ms."""
    found = chosen(decode(0, 0.03, 200), *(decode(n, 1.0, 200) for n in range(1, 5)))
    assert found.verified.tolist() == [1, 0, 0, 0, 0]
    assert found.every_s[0] == pytest.approx(0.03 * (1.0 + 0.75 * CHANCE))


def test_where_drafts_are_hardly_accepted_none_is_verified() -> None:
    found = chosen(decode(0, 0.03, 200), decode(1, 1.0, 200), chance=0.001)
    assert found.verified.tolist() == [0, 0]


def test_one_out_of_reach_even_with_drafts_paces_none() -> None:
    found = chosen(decode(0, 0.002, 200), decode(1, 1.0, 200))
    assert found.verified.tolist() == [0, 0]


def test_only_those_at_hand_cost_time() -> None:
    """An n-gram drafter may have found nothing."""
    found = chosen(decode(0, 0.03, 200), at_hand=0)
    assert found.verified.tolist() == [1]
    assert found.tokens == 0


def test_a_step_without_prefill_has_room_for_all_drafts() -> None:
    """10 ms of it are there in any case."""
    rows = (decode(0, math.inf, 200), decode(1, math.inf, 200))
    found = chosen(*rows)
    assert found.verified.tolist() == [0, 0]
    assert found.whole_s == pytest.approx(MODEL.step_s(4, 400))
    assert chosen(*rows, chance=0.001).whole_s == math.inf  # it brings next to nothing


def test_a_pace_shorter_than_its_own_step_is_no_choice() -> None:
    """One draft of each would make the step longer than drafts allow it to be."""
    rows = tuple(decode(slot, 0.0150, 200) for slot in range(45))  # 10 + 4.5 + 0.9 ms
    found = chosen(*rows, chance=0.2)
    assert found.verified.tolist() == [0] * 45


def test_an_engine_without_a_drafter_chooses_nothing() -> None:
    seen = Snapshot(running_batch(()), WaitingTable(), EngineLimits(8, 64, 640, 16, 64), 640)
    batch = Decodes.of(MODEL, seen.running)
    assert choose_drafts(MODEL, seen, batch, np.empty(0), 1.0) is None
