"""Ranks that step together: does every wave end, is no request lost, are promises kept, and what is
learned of how long a step takes?"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from scorpio.core.registry import policy_names
from scorpio.engine.lockstep import steps_together
from tests.engine.driver import VirtualScheduler
from tests.engine.timed import settings
from tests.engine.waves import DUMMY_S, RankScheduler, RanksStuckError, Waves

HOPELESS = {"slo_ttft_ms": 1}
LOOSE = {"slo_ttft_ms": 60_000}


class Alone(RankScheduler):
    """As if nothing waited for it."""

    def has_unfinished_requests(self) -> bool:
        return bool(self.requests)


def ended(waves: Waves) -> dict[str, str]:
    """How each request did."""
    said = {}
    for rank in waves.ranks:
        rank.engine.assert_drained()
        for name, outputs in rank.engine.outputs.items():
            assert outputs, f"{name} has heard nothing"
            refusal = rank.engine.refusal(name)
            said[name] = "refused" if refusal else str(outputs[-1].finish_reason)
    return said


def test_ranks_of_one_model_know_it() -> None:
    waves = Waves(settings())
    assert all(steps_together(rank.engine.scheduler) for rank in waves.ranks)


@pytest.mark.parametrize("to", [0, 1])
def test_a_refusal_at_a_resting_rank_ends_its_wave(to: int) -> None:
    """The other rank was told to begin, and waits in its first step."""
    waves = Waves(settings())
    waves.send(1.0, to, "no", 500, 10, **HOPELESS)
    waves.send(2.0, to, "nor this", 500, 10, **HOPELESS)
    waves.send(3.0, 1 - to, "yes", 500, 10, **LOOSE)
    waves.run()
    assert ended(waves) == {"no": "refused", "nor this": "refused", "yes": "stop"}
    assert waves.waves == 3
    assert not waves.ranks[0].running


def test_without_that_the_others_wait_for_ever() -> None:
    waves = Waves(settings(), cls=Alone)
    waves.send(1.0, 0, "no", 500, 10, **HOPELESS)
    with pytest.raises(RanksStuckError):
        waves.run()


def test_beyond_a_cap_it_is_the_same() -> None:
    """Refused on arrival, before there is a step."""
    waves = Waves(settings(most_waiting=1))
    for number in range(6):
        waves.send(1.0, 0, f"r{number}", 500, 5, **LOOSE)
    waves.run()
    assert set(ended(waves).values()) == {"refused", "stop"}


@pytest.mark.parametrize("policy", policy_names())
@pytest.mark.parametrize("seed", range(3))
def test_every_wave_ends_and_no_request_is_lost(policy: str, seed: int) -> None:
    random_ = Random(f"{policy} {seed}")
    waves = Waves(settings() | {"policy": policy})
    now_s, count = 0.0, 60
    slos: list[dict[str, Any]] = [HOPELESS, LOOSE, {}, {"slo_ttft_ms": 300, "slo_tpot_ms": 30}]
    for number in range(count):
        now_s += random_.choice((0.0, 0.02, 0.1, 3.0))
        sizes = random_.randrange(1, 3000), random_.randrange(1, 40)
        to = random_.choice((0, 0, 0, 1))
        waves.send(now_s, to, f"r{number}", *sizes, **random_.choice(slos))
    waves.run()
    how = ended(waves)
    assert len(how) == count
    assert set(how.values()) <= {"stop", "length", "refused"}
    assert waves.waves > 1
    assert not any(rank.running for rank in waves.ranks)
    assert all(rank.engine.scorpio.telemetry.fallbacks == 0 for rank in waves.ranks)


def test_promises_are_kept_at_moderate_load() -> None:
    """One rank has chats, the other long prompts, for which all steps wait."""
    random_, waves, now_s = Random(7), Waves(settings()), 0.0
    slo = {"slo_ttft_ms": 2000, "slo_tpot_ms": 80}
    wanted: dict[str, tuple[int, int]] = {}
    for number in range(160):
        now_s += random_.expovariate(3.0)
        to = number % 2
        prompt = random_.randrange(1000, 3000) if to else random_.randrange(20, 200)
        wanted[f"r{number}"] = to, random_.randrange(20, 120)
        waves.send(now_s, to, f"r{number}", prompt, wanted[f"r{number}"][1], **slo)
    waves.run()
    how = ended(waves)
    kept = [name for name, (to, tokens) in wanted.items() if _kept(waves, name, to, tokens)]
    refused = [name for name, what in how.items() if what == "refused"]
    assert len(kept) >= 0.97 * (len(wanted) - len(refused))
    assert len(refused) <= 0.03 * len(wanted)


def _kept(waves: Waves, name: str, to: int, tokens: int) -> bool:
    engine = waves.ranks[to].engine
    if engine.refusal(name):
        return False
    first_s, last_s = engine.first_s[name], engine.last_s[name]
    return engine.ttft_s(name) <= 2.0 and last_s - first_s <= 0.080 * max(tokens - 1, 1)


def test_a_step_is_as_long_as_the_slowest_ranks() -> None:
    waves = Waves(settings())
    samples: list[Any] = []
    observe = waves.ranks[0].engine.scorpio._policy.observe

    def seen(sample: Any) -> None:
        samples.append(sample)
        observe(sample)

    waves.ranks[0].engine.scorpio._policy.observe = seen  # type: ignore[method-assign]
    waves.send(0.0, 0, "short", 10, 60, **LOOSE)
    for number in range(4):
        waves.send(0.05 + number, 1, f"long {number}", 8000, 4, **LOOSE)
    waves.run()
    assert set(ended(waves).values()) == {"stop"}
    decodes = [s.duration_s for s in samples if s.num_decodes and not s.prefill_tokens]
    assert min(decodes) == pytest.approx(0.010, rel=0.05)  # alone, or beside a dummy batch
    assert max(decodes) > 0.15  # beside 2048 tokens of the other rank's prompt
    assert max(decodes) < 0.35  # and no dummy batch is taken for a part of a step
    assert min(decodes) > DUMMY_S
    assert isinstance(waves.ranks[0].engine.scheduler, VirtualScheduler)
