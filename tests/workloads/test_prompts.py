"""Do prompts have the exact token count, share what they should, and nothing else?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import WorkloadError
from workloads.replay.prompts import prompt_text, prompt_token_ids
from workloads.traces.row import BLOCK_TOKENS, block_count


@dataclass(frozen=True)
class Request:
    index: int
    prompt_tokens: int
    hash_ids: tuple[int, ...]
    block_tokens: int = BLOCK_TOKENS


def common(a: list[int], b: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 3000),
    vocab=st.integers(200, 200_000),
    seed=st.integers(0, 2**60),
    ids=st.lists(st.integers(0, 2**62), max_size=6),
)
def test_count_range_and_determinism(tokens: int, vocab: int, seed: int, ids: list[int]) -> None:
    request = Request(3, tokens, tuple(ids[: block_count(tokens)]))
    made = prompt_token_ids(request, vocab, seed)
    assert len(made) == tokens
    assert all(type(i) is int for i in made)
    assert 100 <= min(made) <= max(made) < vocab - vocab * 3 // 100
    assert made == prompt_token_ids(request, vocab, seed)


def test_equal_ids_share_their_blocks_and_no_more() -> None:
    a = prompt_token_ids(Request(0, 1500, (7, 8, 9)), 50_000, 1)
    b = prompt_token_ids(Request(1, 1400, (7, 8, 10)), 50_000, 1)
    assert common(a, b) == 2 * BLOCK_TOKENS
    shorter = prompt_token_ids(Request(2, 700, (7, 8)), 50_000, 1)
    assert shorter == a[:700]


def test_blocks_of_another_size_share_exactly_theirs() -> None:
    a, b = (
        prompt_token_ids(Request(i, 100, (7, 8, 9, 20 + i), block_tokens=16), 50_000, 1)
        for i in range(2)
    )
    assert common(a, b) == 3 * 16
    assert (len(a), len(b)) == (100, 100)


def test_different_ids_share_nothing() -> None:
    prompts = [prompt_token_ids(Request(i, 600, (2 * i, 2 * i + 1)), 50_000, 1) for i in range(50)]
    firsts = {tuple(p[:16]) for p in prompts}  # 16 tokens: the smallest block vLLM caches
    assert len(firsts) == 50


def test_a_second_run_finds_no_cache() -> None:
    request = Request(0, 600, (1, 2))
    assert common(*(prompt_token_ids(request, 50_000, seed) for seed in (1, 2))) < 4


def test_blocks_without_ids_belong_to_their_request() -> None:
    first, second = (prompt_token_ids(Request(i, 600, ()), 50_000, 1) for i in (0, 1))
    assert common(first, second) < 4
    half = prompt_token_ids(Request(0, 1024, (5,)), 50_000, 1)
    other = prompt_token_ids(Request(1, 1024, (5,)), 50_000, 1)
    assert common(half, other) == BLOCK_TOKENS


def test_a_range_can_be_given() -> None:
    made = prompt_token_ids(Request(0, 2000, ()), 300, 0, low=250, high=260)
    assert set(made) == set(range(250, 260))


@pytest.mark.parametrize(("low", "high"), [(-1, 10), (10, 10), (0, 301)])
def test_an_impossible_range_is_refused(low: int, high: int) -> None:
    with pytest.raises(WorkloadError, match="token ids need"):
        prompt_token_ids(Request(0, 5, ()), 300, 0, low=low, high=high)


def by_word(text: str) -> list[str]:
    return text.split()


def by_piece(text: str) -> list[str]:
    """Like a small BPE: words of up to four letters are one token, longer ones are several."""
    return re.findall(r" ?[a-z]{1,4}", text)


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 1600), seed=st.integers(0, 2**60), pieces=st.booleans())
def test_text_has_the_exact_count(tokens: int, seed: int, pieces: bool) -> None:
    encode = by_piece if pieces else by_word
    request = Request(0, tokens, tuple(range(block_count(tokens))))
    text = prompt_text(request, encode, seed)
    assert len(encode(text)) == tokens
    assert text == prompt_text(request, encode, seed)


def test_text_shares_its_prefix() -> None:
    a = prompt_text(Request(0, 1024, (1, 2)), by_piece, 5)
    b = prompt_text(Request(1, 1024, (1, 3)), by_piece, 5)
    assert by_piece(a)[:BLOCK_TOKENS] == by_piece(b)[:BLOCK_TOKENS]
    assert by_piece(a)[BLOCK_TOKENS:] != by_piece(b)[BLOCK_TOKENS:]


def test_text_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(WorkloadError, match="exactly 5 tokens"):
        prompt_text(Request(0, 5, ()), lambda text: [0, 0] * len(text), 0)


def test_text_is_exact_when_the_tokenizer_adds_one_in_front() -> None:
    text = prompt_text(Request(0, 1024, (1, 2)), lambda text: ["start", *by_piece(text)], 5)
    assert len(by_piece(text)) + 1 == 1024
