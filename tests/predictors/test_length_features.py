"""Are features the same everywhere, bounded, and blind to nothing they claim to see?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.length.features import DENSE_NAMES, extract
from predictors.length.hashing import BUCKET_BITS, excerpt, ngram_buckets, text_hash
from predictors.length.request import LengthRequest

TEXTS = st.text(st.characters(codec=None), max_size=3000)
_PRINT = """
from predictors.length.features import extract
from predictors.length.request import LengthRequest
f = extract(LengthRequest("Write 5 ideas für Köln?", 9, model="m"))
print(f.buckets.tolist(), f.counts.tolist(), f.dense.tolist())
"""


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 10**7), st.integers(0, 10**6), st.floats(0, 5), TEXTS)
def test_any_request_gives_finite_features_in_range(
    prompt: str, prompt_tokens: int, max_tokens: int, temperature: float, system: str
) -> None:
    request = LengthRequest(prompt, prompt_tokens, max_tokens, temperature, system, 3, "m", "t")
    features = extract(request)
    assert features.dense.shape == (len(DENSE_NAMES),)
    assert np.isfinite(features.dense).all()
    assert np.all(np.diff(features.buckets) > 0)
    assert features.buckets.min() >= 0
    assert features.buckets.max() < 1 << BUCKET_BITS
    assert np.all(features.counts > 0)
    again = extract(request)
    assert np.array_equal(features.dense, again.dense)
    assert np.array_equal(features.buckets, again.buckets)


def test_another_process_computes_the_same() -> None:
    outs = {
        subprocess.run(
            [sys.executable, "-c", _PRINT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outs) == 1
    request = LengthRequest("Write 5 ideas für Köln?", 9, model="m")
    assert str(extract(request).buckets.tolist()) in outs.pop()


def test_hashes_are_pinned() -> None:
    """A change here changes what stored models mean: raise features.VERSION with it."""
    buckets, words = ngram_buckets(b"Write a poem")
    assert words == 3
    assert buckets[:4].tolist() == [32205, 33085, 27354, 39281]
    assert text_hash("system") == 328493560741076137


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=60), st.integers(0, 40))
def test_a_word_hashes_alike_wherever_it_stands(word: bytes, shift: int) -> None:
    word = b"w" + bytes(b for b in word if chr(b).isascii() and chr(b).isalnum())
    alone, _ = ngram_buckets(word)
    shifted, _ = ngram_buckets(b" " * shift + word)
    assert alone[0] == shifted[0]
    assert ngram_buckets(word.upper())[0][0] == alone[0]


def test_facts_and_text_move_the_bag() -> None:
    plain = extract(LengthRequest("hello there", 2))
    for other in (
        LengthRequest("hello here", 2),
        LengthRequest("hello there", 2, model="m"),
        LengthRequest("hello there", 2, tenant="t"),
        LengthRequest("hello there", 2, system="s"),
    ):
        assert not np.array_equal(extract(other).buckets, plain.buckets)


def test_numbers_asked_for_are_read() -> None:
    at = DENSE_NAMES.index("log_asked_tokens")
    words = extract(LengthRequest("an essay of 500 words", 5)).dense[at]
    assert words == pytest.approx(np.log1p(500 * 1.3))
    assert extract(LengthRequest("a 3-sentence answer", 5)).dense[at] > 0
    assert extract(LengthRequest("room 101", 5)).dense[at] == 0


def test_a_huge_prompt_is_cut_to_its_ends() -> None:
    prompt = "Summarise this. " + "x" * 5_000_000 + " In one word."
    raw = excerpt(prompt)
    assert len(raw) <= 1030
    assert raw.startswith(b"Summarise")
    assert raw.endswith(b"In one word.")
    assert len(excerpt("\u4e2d" * 10_000)) <= 1024


@pytest.mark.parametrize(
    "wrong", [{"prompt_tokens": -1}, {"max_tokens": -1}, {"turn": 0}, {"temperature": float("nan")}]
)
def test_impossible_facts_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LengthRequest(**{"prompt": "", "prompt_tokens": 1, **wrong})  # type: ignore[arg-type]
