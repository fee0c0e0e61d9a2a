"""Clients leave in every state of a request; nothing of them may stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.twin.engine.ledger import End
from scorpio.twin.gpu.profile_samples import profile_gpu
from tests.twin.driving import SMALL, TOY, arrival, drive, toy_step_s

DEPTHS = [pytest.param(replace(SMALL, pipeline_depth=d), id=f"depth{d}") for d in (1, 2)]


def _end(spec: EngineSpec, abort_s: float, **more: int) -> tuple[End | None, int]:
    """How request 1 of a small crowd ends, and with how many tokens."""
    load = [arrival(0, output=30), arrival(1, abort_s=abort_s, **more), arrival(2)]
    entry = drive(load, spec).ledger.entries["r0000001"]
    return entry.end, entry.tokens


@pytest.mark.parametrize("spec", DEPTHS)
def test_before_the_engine_sees_it(spec: EngineSpec) -> None:
    assert _end(spec, 0.0) == (End.LEFT, 0)


@pytest.mark.parametrize("spec", DEPTHS)
def test_while_waiting(spec: EngineSpec) -> None:
    assert _end(replace(spec, max_num_seqs=1), 0.1) == (End.LEFT, 0)


@pytest.mark.parametrize("spec", DEPTHS)
def test_between_chunks_of_its_prompt(spec: EngineSpec) -> None:
    assert _end(spec, 2.5 * toy_step_s(64), prompt=400) == (End.LEFT, 0)


@pytest.mark.parametrize("spec", DEPTHS)
def test_while_decoding(spec: EngineSpec) -> None:
    end, tokens = _end(spec, 0.1, output=30)
    assert end is End.LEFT
    assert 0 < tokens < 30


@pytest.mark.parametrize("spec", DEPTHS)
def test_at_every_moment_of_its_life(spec: EngineSpec) -> None:
    for step in range(24):
        end, tokens = _end(spec, 0.004 * step, prompt=90, output=4)
        assert (end, tokens == 4) in {(End.LEFT, False), (End.FINISHED, True)}


@pytest.mark.parametrize("spec", DEPTHS)
def test_while_preempted(spec: EngineSpec) -> None:
    spec = replace(spec, num_blocks=12)
    crowd = [arrival(i, prompt=40, output=40, at_s=0.001 * i) for i in range(4)]
    calm = drive(crowd, spec)
    victim = next(e.arrival for e in calm.ledger.entries.values() if e.preemptions)
    seen = 0
    for step in range(30):
        load = [replace(a, abort_s=0.02 * step) if a == victim else a for a in crowd]
        entry = drive(load, spec).ledger.entries[victim.request_id]
        seen += entry.end is End.LEFT and entry.preemptions > 0
    assert seen > 0


@pytest.mark.parametrize("spec", DEPTHS)
def test_while_its_refusal_is_on_the_way(spec: EngineSpec) -> None:
    told = {"policy": "scorpio-paper", "latency": profile_gpu_dict()}
    hopeless = {"slo_ttft_ms": 5.0, "slo_tpot_ms": 100.0}
    ends = set()
    for step in range(12):
        load = [
            arrival(0, output=30),
            arrival(1, 0.02, xargs=hopeless, abort_s=0.02 + 0.002 * step),
        ]
        loop = drive(load, spec, scheduler_cls=VirtualScorpioScheduler, settings=told)
        ends.add(loop.ledger.entries["r0000001"].end)
    assert ends <= {End.LEFT, End.REJECTED}
    assert End.LEFT in ends


def profile_gpu_dict() -> dict[str, object]:
    """What a policy knows of the toy GPU."""
    from scorpio.twin.gpu.noise import NO_NOISE

    return profile_gpu(TOY, NO_NOISE, 0, 4096).to_dict()
