"""Which states does no seed come to by chance? Each scene is one that was arranged.

A scene is run, watched, replayed and shrunk like any seed; nothing of it is drawn. Its number is
below -1, which stands for no seed at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scorpio.core.latency import StepModel
from scorpio.core.slo import XARG_ON_MISS, XARG_TENANT
from scorpio.engine.virtual.build import EngineSpec
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
    """trouble: where the scene has its feature `pauses`. served: those whose name begins like this
    are refused only against the promise of that number."""

    swarm: Swarm
    calls: tuple[Call, ...]
    trouble: tuple[Trouble, ...] = ()
    served: tuple[str, int] | None = None


def _scene(
    seed: int,
    calls: Iterable[Call],
    features: Iterable[str] = (),
    trouble: tuple[Trouble, ...] = (),
    served: tuple[str, int] | None = None,
    profile_factor: float = 1.0,
    spec: EngineSpec = _SPEC,
    patience_s: float = 60.0,
) -> Scene:
    told = tuple(sorted(calls, key=lambda call: call.arrival_s))
    on = frozenset({"slo", "profile", *features})
    options = {"tenant_share": 1.0, "patience_s": patience_s}
    swarm = Swarm(seed, "scorpio", spec, _STEP, on, len(told), 1.0, profile_factor, options)
    return Scene(swarm, told, trouble, served)


def _call(index: int, at_s: float, prompt: int, ttft_s: float, miss: str = "reject") -> Call:
    xargs: dict[str, object] = {"slo_ttft_ms": 1e3 * ttft_s}
    if miss != "reject":
        xargs[XARG_ON_MISS] = miss
    return Call(index, at_s, prompt, 4, 8, xargs=xargs, name=f"r{index:05d}", asks=True)


def _of(tenant: str, call: Call) -> Call:
    return replace(call, xargs={**call.xargs, XARG_TENANT: tenant})


def _out_of_reach() -> Scene:
    """A few at a time that ask for a tenth of a step."""
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
    return _scene(-5, calls, ["prefix"], served=("r", 38))


def _flood() -> Scene:
    """One account offers several times what the engine can do, each request under a name of its
    own; another little, of which none is refused once both are known."""
    flood = [_of(f"flood/{i}", _call(i, 0.004 * i, 100, 1.0)) for i in range(1000)]
    few = [_of("few/-", _call(1000 + i, 0.2 * i, 100, 1.0)) for i in range(20)]
    few = [replace(call, name=f"few{i:02d}") if i >= 5 else call for i, call in enumerate(few)]
    return _scene(-7, [*flood, *few], ["tenants", "options"], served=("few", 27))


def _one_large() -> Scene:
    """A prompt that needs most of the KV pool, late from the start, beside small ones that come
    as fast as the pool gets free and can all be on time."""
    small = [
        replace(_call(i, 0.02 * i, 60, 30.0), output_tokens=40, max_tokens=48) for i in range(1000)
    ]
    large = _call(1000, 1.0, 1100, 0.01, "wait")
    pool = replace(_SPEC, num_blocks=1 + 90)
    return _scene(-8, [*small, large], ["options"], spec=pool, patience_s=2.0)


def _tight_targets() -> Scene:
    """A steady batch of a dozen and more, and now and then a request whose target is out of reach:
    half of them may be refused, half wait with their deadline in front of all others."""
    steady = [
        replace(_call(i, 0.025 * i, 60, 30.0), output_tokens=40, max_tokens=48) for i in range(200)
    ]
    tight = [_call(200 + i, 0.5 + 0.3 * i, 60, 15.0, ("reject", "wait")[i % 2]) for i in range(12)]
    target = {"slo_tpot_ms": 10.4}
    tight = [replace(call, output_tokens=8, xargs={**call.xargs, **target}) for call in tight]
    return _scene(-9, [*steady, *tight])


def _called_slow() -> Scene:
    """One at a time, at an engine that a wrong profile calls seven times too slow for each."""
    calls = [_call(i, 1.0 * i, 100, 0.08) for i in range(12)]
    return _scene(-6, calls, ["misprofiled"], served=("r", 38), profile_factor=7.0)


_ARRANGED = (
    _out_of_reach(), _late_crowd(), _long_pause(), _one_beginning(), _called_slow(), _flood(),
    _one_large(), _tight_targets(),
)  # fmt: skip
SCENES = {scene.swarm.seed: scene for scene in _ARRANGED}
