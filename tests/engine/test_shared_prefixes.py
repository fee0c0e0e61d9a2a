"""Does a burst of prompts that begin alike count, and cost, what it really takes?"""

from __future__ import annotations

import random

import pytest

from scorpio.engine.view.shared_prefixes import SharedPrefixes
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.test_crowd import STEP
from tests.engine.timed import Timed, settings

SPEC = EngineSpec(pipeline_depth=1, enable_prefix_caching=True, max_num_batched_tokens=2048,
                  num_blocks=20_000, max_model_len=16_384, max_num_seqs=256)  # fmt: skip
SHARED, OWN, OUTPUT, BURST = 8192, 100, 8, 300


def burst(ttft_ms: float, **slo: float) -> Timed:
    """All at once, of one beginning and an end of their own; served."""
    engine = Timed(STEP, settings(STEP), spec=SPEC)
    for number in range(BURST):
        name = f"r{number}"
        engine.outputs[name], engine.born_s[name] = [], 0.0
        engine.number += 1
        xargs = {"slo_ttft_ms": ttft_ms, **slo}
        request = engine.factory.make(
            name, 0.0, SHARED + OWN, OUTPUT, xargs, prefix_ids=tuple(range(SHARED // 512))
        )
        engine.runner.expect(name, engine.number, SHARED + OWN, OUTPUT)
        engine.scheduler.add_request(request)
    for _ in range(2000):
        if not engine.scheduler.has_requests():
            break
        engine.step()
    return engine


def test_a_burst_of_one_beginning_is_served() -> None:
    engine = burst(6000.0)
    refused = [name for name in engine.outputs if engine.refusal(name)]
    assert len(refused) <= 0.05 * BURST
    assert engine.scorpio.telemetry.fallbacks == 0
    late = [name for name in engine.first_s if engine.ttft_s(name) > 6.0]
    assert not late


def test_no_forecast_of_it_is_twice_too_long() -> None:
    """Too little time for all: who is refused hears how long the rest really takes."""
    engine = burst(1500.0)
    told = [notice for name in engine.outputs if (notice := engine.refusal(name))]
    assert told
    served_s = max(engine.ttft_s(name) for name in engine.first_s)
    all_s = served_s * BURST / (BURST - len(told))
    assert all((notice.attainable_ttft_ms or 0) / 1e3 <= 2.0 * all_s for notice in told)


@pytest.mark.parametrize(("tpot_ms", "most"), [(100.0, 0), (50.0, 15), (35.0, 60)])
def test_a_burst_of_short_answers_is_served_beside_a_tight_tpot(tpot_ms: float, most: int) -> None:
    """A decode takes 0.73 ms of a step, the context of each being long: the batch is full of them
    at once. But it has eight tokens for each, so that as much is left for prefill all the time.
    most: by arithmetic about 15 of 300 have no time with 50 ms, and 50 with 35."""
    engine = burst(6000.0, slo_tpot_ms=tpot_ms)
    refused = [name for name in engine.outputs if engine.refusal(name)]
    assert len(refused) <= most
    assert all(engine.ttft_s(name) <= 6.0 for name in engine.first_s)
    assert len(engine.first_s) == BURST - len(refused)


def blocks(*names: int) -> list[bytes]:
    """Chained like vLLM's: each names all before it."""
    return [bytes(names[: n + 1]).ljust(32, b"\0") for n in range(len(names))]


def test_which_requests_share_what() -> None:
    index = SharedPrefixes()
    assert index.arrived("a", blocks(1, 2, 3, 4)) is None
    assert index.arrived("b", blocks(1, 2, 9)) == "a"
    assert index.arrived("c", blocks(1, 2, 9, 8)) == "b"
    assert index.arrived("d", blocks(7)) is None
    assert [index.shared(name)[0] for name in "abcd"] == [2, 3, 3, 0]
    assert index.shared("b")[1] == index.shared("c")[1] != index.shared("a")[1]
    assert index.gone("a") == ["b"]
    assert index.arrived("e", blocks(1, 2, 3, 4)) == "b"  # what was a's alone is gone with it
    assert index.shared("e")[0] == 2


@pytest.mark.parametrize("seed", range(4))
def test_over_random_lives_it_finds_what_is_shared_and_forgets_all(seed: int) -> None:
    rng, index, alive = random.Random(seed), SharedPrefixes(), dict[str, list[bytes]]()
    for number in range(400):
        if alive and rng.random() < 0.45:
            name = rng.choice(sorted(alive))
            index.gone(name)
            del alive[name]
            continue
        name, hashes = f"r{number}", blocks(*(rng.randrange(1, 3) for _ in range(rng.randrange(9))))
        leader = index.arrived(name, hashes)
        most = max((len(set(hashes) & set(other)) for other in alive.values()), default=0)
        assert index.shared(name)[0] == most
        assert (leader is None) is (most == 0)
        alive[name] = hashes
    for name in list(alive):
        index.gone(name)
    assert not index._members
    assert not index._owner_of
