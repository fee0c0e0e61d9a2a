"""Which states does no seed come to by chance? Each scene is one that was arranged.

A scene is run, watched, replayed and shrunk like any seed; nothing of it is drawn. Its number is
below -1, which stands for no seed at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scorpio.core.latency import StepModel
from scorpio.core.slo import XARG_ON_MISS
from scorpio.engine.virtual import EngineSpec
from tests.simulation.load import Call
from tests.simulation.swarm import BLOCK_TOKENS, Swarm
from tests.simulation.trouble import Kind, Trouble

_STEP = StepModel(0.01, 5e-5, 1e-4, 16.0, 0.0, 0.0, 1e-8)
_SPEC = EngineSpec(
    max_num_seqs=64,
    max_num_batched_tokens=128,
    enable_chunked_prefill=True,
    num_blocks=2000,
    block_size=BLOCK_TOKENS,
    max_model_len=1536,
    enable_prefix_caching=True,
    long_prefill_token_threshold=0,
    pipeline_depth=1,
    model_runner="v1",
    max_loras=0,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """trouble: where the scene has its feature `pauses`. all_served: all can be, in time."""

    swarm: Swarm
    calls: tuple[Call, ...]
    trouble: tuple[Trouble, ...] = ()
    all_served: bool = False


def _scene(
    seed: int,
    calls: Iterable[Call],
    features: Iterable[str] = (),
    trouble: tuple[Trouble, ...] = (),
    all_served: bool = False,
    profile_factor: float = 1.0,
) -> Scene:
    told = tuple(sorted(calls, key=lambda call: call.arrival_s))
    on = frozenset({"slo", "profile", *features})
    swarm = Swarm(seed, "scorpio", _SPEC, _STEP, on, len(told), 1.0, profile_factor)
    return Scene(swarm, told, trouble, all_served)


def _call(index: int, at_s: float, prompt: int, ttft_s: float, miss: str = "reject") -> Call:
    xargs: dict[str, object] = {"slo_ttft_ms": 1e3 * ttft_s}
    if miss != "reject":
        xargs[XARG_ON_MISS] = miss
    return Call(index, at_s, prompt, 4, 8, xargs=xargs, name=f"r{index:05d}", asks=True)


def _out_of_reach() -> Scene:
    """A few at a time who ask for a tenth of a step."""
    return _scene(-2, [_call(i, 1.0 * (i // 4), 100, 0.001) for i in range(24)])


def _late_crowd() -> Scene:
    """A crowd that is late from the start and waits all the same, and one that can be on time."""
    late = [_call(i, 0.0, 300, 0.02, "wait") for i in range(150)]
    good = [_call(150 + i, 0.05 * i, 100, 3.0, "wait") for i in range(100)]
    return _scene(-3, [*late, *good])


def _long_pause() -> Scene:
    """A crowd that would be served in a second or two, were the engine not paused for a minute."""
    calls = [_call(i, 0.0, 300, 5.0) for i in range(60)]
    trouble = (Trouble(0.25, Kind.PAUSE_KEEP), Trouble(60.25, Kind.RESUME))
    return _scene(-4, calls, ["pauses"], trouble=trouble)


def _one_beginning() -> Scene:
    """A crowd whose prompts begin alike: computed once, all are in time; one by one, few."""
    beginning = tuple(range(32))
    calls = [
        Call(i, 0.0, 1056, 4, 8, xargs={"slo_ttft_ms": 2000.0}, name=f"r{i:05d}", asks=True,
             prefix_ids=beginning)
        for i in range(40)
    ]  # fmt: skip
    return _scene(-5, calls, ["prefix"], all_served=True)


def _called_slow() -> Scene:
    """One at a time, at an engine that a wrong profile calls seven times too slow for each."""
    calls = [_call(i, 1.0 * i, 100, 0.08) for i in range(12)]
    return _scene(-6, calls, ["misprofiled"], all_served=True, profile_factor=7.0)


SCENES = {
    scene.swarm.seed: scene
    for scene in (
        _out_of_reach(), _late_crowd(), _long_pause(), _one_beginning(), _called_slow()
    )
}  # fmt: skip
