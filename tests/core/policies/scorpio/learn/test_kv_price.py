"""Is a request called dear when others are lost for it, and only then?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from scorpio.core.policies.scorpio.learn.kv_price import KvPrice, kv_held
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.waiting import WaitingTable
from tests.core.policies.scorpio.hand import view

START_S = 1000.0
STEP_S = 0.02
LENGTH = 100.0  # expected of each answer


def exact() -> LengthBelief:
    """Expects `LENGTH` tokens of every answer."""
    belief = LengthBelief(4)
    belief.mean_tokens = LENGTH
    return belief


def table(prompts: Sequence[int], arrival_s: float = START_S, first: int = 1, **facts: float
          ) -> WaitingTable:  # fmt: skip
    waiting = WaitingTable()
    for number, prompt in enumerate(prompts):
        seq = first + number
        waiting.add(view(f"r{seq}", prompt, seq=seq, arrival_s=arrival_s, **facts), float(number))
    return waiting


def held(prompt: float) -> float:
    return (prompt + 50.0) * 100.0


def pool_for(prompts: Sequence[int]) -> int:
    """A pool of which these fill four fifths, when they come in 30 s."""
    return math.ceil(sum(held(prompt) for prompt in prompts) * STEP_S / 30.0 / 0.8)


def test_a_request_holds_its_prompt_and_half_of_its_answer_for_its_answer() -> None:
    assert kv_held(np.array([300.0]), np.array([100.0])).tolist() == [35_000.0]


def test_there_is_no_price_where_there_is_room_for_all() -> None:
    prompts = [100, 200, 3000]
    price = KvPrice(pool_for(prompts) + 1)
    price.follow(START_S, table(prompts), exact(), STEP_S)
    assert price.price == math.inf


def test_the_price_is_what_the_first_that_finds_no_room_would_hold() -> None:
    prompts = [3000, 100, 200, 900]  # in any order
    price = KvPrice(pool_for([100, 200]) + 1)
    price.follow(START_S, table(prompts), exact(), STEP_S)
    assert price.price == held(900)


def test_what_it_is_worth_counts() -> None:
    waiting = table([100, 200])
    waiting.add(view("worth", 900, seq=9, arrival_s=START_S, value=100.0), 9.0)
    price = KvPrice(pool_for([100, 900]) + 1)
    price.follow(START_S, waiting, exact(), STEP_S)
    assert price.price == held(200)  # the large one costs less for each unit of value


def test_each_is_counted_once_and_for_half_a_minute() -> None:
    prompts, lengths = [100, 200, 900], exact()
    waiting, price = table(prompts), KvPrice(pool_for([100, 200]) + 1)
    for later_s in (0.0, 10.0, 29.9):
        price.follow(START_S + later_s, waiting, lengths, STEP_S)
        assert price.price == held(900)
    price.follow(START_S + 30.1, waiting, lengths, STEP_S)
    assert price.price == math.inf


@pytest.mark.parametrize("count", [600, 20_000])
def test_a_flood_is_looked_at_in_part(count: int) -> None:
    price = KvPrice(pool_for([100] * 10))
    price.follow(START_S + 1.0, table([100] * count), exact(), STEP_S)
    assert price.price == held(100)
