"""Do the mixes promise what MEASURING says, in exact shares and in an order drawn by seed?"""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import UnknownName
from workloads.mixes import Mix, MixClass, assign, class_name, get_mix, mix_names

SIX = [(500, 30), (500, 50), (2000, 30), (3000, 50), (5000, 50), (7500, 50)]


def promises(name: str) -> list[tuple[float, float]]:
    return [(c.ttft_ms, c.tpot_ms) for c in get_mix(name).classes]


def test_the_published_mixes() -> None:
    assert mix_names() == ["artefact-3", "cpu", "e2e-3", "product", "six", "six-value"]
    assert promises("six") == promises("six-value") == SIX
    assert [c.value for c in get_mix("six-value").classes] == [4, 1, 1, 1, 1, 1]
    assert promises("artefact-3") == [(500, 50), (3000, 30), (15000, 50)]
    assert promises("cpu") == [(10 * ttft, 8 * tpot) for ttft, tpot in SIX]
    product = get_mix("product").classes
    assert [(c.name, c.ttft_ms, c.tpot_ms) for c in product] == [
        ("chat", 1000, 60),
        ("agent", 500, 30),
        ("doc", 5000, 100),
        ("batch", 30000, 200),
    ]
    assert [c.share for c in product] == pytest.approx([0.5, 0.2, 0.2, 0.1])


def test_names_are_stable_and_say_the_promise() -> None:
    assert class_name(500, 30) == "t0.5-p30"
    assert class_name(7500, 50) == "t7.5-p50"
    assert [c.name for c in get_mix("cpu").classes][:2] == ["t5-p240", "t5-p400"]
    for name in mix_names():
        names = [c.name for c in get_mix(name).classes]
        assert len(names) == len(set(names))


def test_unknown_mix_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownName) as caught:
        get_mix("seven")
    assert (
        str(caught.value)
        == "unknown mix 'seven'; valid: artefact-3, cpu, e2e-3, product, six, six-value"
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["six", "artefact-3", "product", "cpu"]),
    n=st.integers(0, 500),
    seed=st.integers(0, 2**60),
)
def test_shares_are_exact(name: str, n: int, seed: int) -> None:
    given_classes = assign(name, n, seed)
    assert len(given_classes) == n
    counts = Counter(c.name for c in given_classes)
    for entry in get_mix(name).classes:
        assert abs(counts[entry.name] - entry.share * n) < 1.0 + 1e-9
    assert given_classes == assign(get_mix(name), n, seed)


def test_counts_by_hand() -> None:
    assert Counter(c.name for c in assign("product", 10, 3)) == {
        "chat": 5,
        "agent": 2,
        "doc": 2,
        "batch": 1,
    }
    # 8 of six classes: one each, and the two left over go to the first two
    assert [c.name for c in assign("six", 8, 0)].count("t0.5-p30") == 2
    assert [c.name for c in assign("six", 8, 0)].count("t0.5-p50") == 2


def test_seeds_differ_in_order() -> None:
    assert assign("six", 100, 0) != assign("six", 100, 1)


def test_a_mix_checks_itself() -> None:
    with pytest.raises(ValueError, match="ttft_ms of class a must be > 0"):
        MixClass("a", 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="value of class a must be > 0"):
        MixClass("a", 1.0, 1.0, 1.0, value=math.inf)
    with pytest.raises(ValueError, match="class a promises nothing"):
        MixClass("a", math.inf, math.inf, 1.0)
    with pytest.raises(ValueError, match="share of class a must be > 0"):
        MixClass("a", 1.0, 1.0, math.inf)
    with pytest.raises(ValueError, match="add up to 1"):
        Mix("m", (MixClass("a", 1.0, 1.0, 0.5),))
