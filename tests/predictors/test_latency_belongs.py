"""Is a profile of another engine told from one of this engine, fact by fact?"""

from __future__ import annotations

from dataclasses import replace

from predictors.latency.artifact import Machine, ProfileFile
from predictors.latency.belongs import ENGINE_FACTS, MODEL_FACTS, Mismatch, compare_facts
from scorpio.core.latency import UNMEASURED

HERE = Machine("Xeon", 8, ("A100",))
FACTS: dict[str, object] = dict.fromkeys((*MODEL_FACTS, *ENGINE_FACTS), 1)
SAME = ProfileFile(UNMEASURED, "m", HERE, "0.32.0", "now", {}, FACTS)


def compare(measured: ProfileFile, facts: dict[str, object] = FACTS) -> Mismatch:
    return compare_facts(measured, facts, HERE, "0.32.0")


def test_the_same_engine() -> None:
    assert compare(SAME) == Mismatch((), (), unknown=False)


def test_each_fact_of_the_model_counts() -> None:
    for name in MODEL_FACTS:
        found = compare(replace(SAME, engine=FACTS | {name: 2}))
        assert found == Mismatch((f"{name}: 2, here 1",), (), unknown=False)


def test_each_other_fact_is_named() -> None:
    for name in ENGINE_FACTS:
        found = compare(replace(SAME, engine=FACTS | {name: 2}))
        assert found == Mismatch((), (f"{name}: 2, here 1",), unknown=False)
    found = compare(replace(SAME, machine=Machine("Epyc", 4), vllm="0.31.0"))
    assert found.other == (
        "vllm: 0.31.0, here 0.32.0",
        "cpu: Epyc, here Xeon",
        "cores: 4, here 8",
        "gpus: none, here A100",
    )


def test_facts_that_one_side_does_not_know_are_not_compared() -> None:
    assert compare(replace(SAME, engine={})) == Mismatch((), (), unknown=True)
    assert compare(SAME, {}) == Mismatch((), (), unknown=True)
    assert compare(replace(SAME, engine={"layers": 2})).model == ("layers: 2, here 1",)
