"""Random small loads on random small engines: every invariant after every step, then drained."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorpio.core.registry import policy_names
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import End
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.gpu.profile_samples import profile_gpu
from tests.twin.driving import TOY, arrival, drive

NOISY = NoiseSpec(0.1, 0.05, 0.05)
PROFILE = profile_gpu(TOY, NOISY, 0, 4096).to_dict()
BOUNDED = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=True,
)


@st.composite
def engines(draw: st.DrawFn) -> EngineSpec:
    """Tight ones: preemption, chunking and full batches are the rule."""
    chunked = draw(st.booleans())
    budget = draw(st.sampled_from([8, 24, 64]) if chunked else st.just(96))
    return EngineSpec(
        max_num_seqs=draw(st.sampled_from([1, 3, 8])),
        max_num_batched_tokens=budget,
        num_blocks=draw(st.sampled_from([8, 14, 60])),
        max_model_len=96,
        enable_chunked_prefill=chunked,
        enable_prefix_caching=draw(st.booleans()),
        long_prefill_token_threshold=draw(st.sampled_from([0, 16])) if chunked else 0,
        max_num_queued_tokens=draw(st.sampled_from([None, None, 120])),
        pipeline_depth=draw(st.sampled_from([1, 2])),
        model_runner=draw(st.sampled_from(["v1", "v2"])),
    )


@st.composite
def loads(draw: st.DrawFn) -> list[Arrival]:
    """Bursts with shared prefixes and impatient clients."""
    load, at_s = [], 0.0
    for index in range(draw(st.integers(1, 14))):
        at_s += draw(st.sampled_from([0.0, 0.0, 0.004, 0.03, 1.0]))
        output = draw(st.integers(1, 40))
        slos = {"slo_ttft_ms": draw(st.sampled_from([12.0, 60.0, 5000.0])),
                "slo_tpot_ms": draw(st.sampled_from([11.2, 15.0, 200.0])),
                "predicted_output_tokens": draw(st.integers(1, 60))}  # fmt: skip
        leaves = draw(st.sampled_from([None, None, None, 0.0, 0.011, 0.05, 0.4]))
        load.append(
            arrival(
                index,
                at_s,
                prompt=draw(st.integers(1, 60)),
                output=output,
                max_tokens=draw(st.sampled_from([output, max(output, 30)])),
                xargs=slos,
                prefix_ids=(draw(st.integers(0, 2)),) if draw(st.booleans()) else (),
                abort_s=float("inf") if leaves is None else at_s + leaves,
            )
        )
    return load


@BOUNDED
@given(engines(), loads(), st.integers(0, 3))
def test_stock_keeps_every_invariant(spec: EngineSpec, load: list[Arrival], seed: int) -> None:
    loop = drive(load, spec, noise=NOISY, seed=seed)
    assert len(loop.ledger.entries) == len(load)
    again = drive(load, spec, noise=NOISY, seed=seed)
    assert again.log.lines == loop.log.lines
    patient = [a for a in load if a.abort_s == float("inf")]
    ends = {loop.ledger.entries[a.request_id].end for a in patient}
    assert ends <= {End.FINISHED, End.TURNED_AWAY, End.INVALID}


@BOUNDED
@given(engines(), loads(), st.integers(0, 3), st.sampled_from(policy_names()))
def test_policies_keep_every_invariant(
    spec: EngineSpec, load: list[Arrival], seed: int, policy: str
) -> None:
    told = {"policy": policy, "latency": PROFILE}
    loop = drive(load, spec, scheduler_cls=VirtualScorpioScheduler, settings=told,
                 noise=NOISY, seed=seed)  # fmt: skip
    scheduler = loop.scheduler
    assert isinstance(scheduler, VirtualScorpioScheduler)
    assert scheduler.policy_fallbacks == 0
    assert len(loop.ledger.entries) == len(load)
    if policy == "fcfs":
        assert drive(load, spec, noise=NOISY, seed=seed).log.lines == loop.log.lines


@BOUNDED
@given(engines(), loads())
def test_streams_do_not_depend_on_the_engine(spec: EngineSpec, load: list[Arrival]) -> None:
    # 13: whatever is preempted, chunked or aborted around it, a finished stream is the same one.
    # The ledger compares each token with a function of (request, position): reaching the end is
    # the proof, the lengths are counted once more.
    roomy = replace(spec, num_blocks=400, max_num_queued_tokens=None)
    for one in (spec, roomy):
        for entry in drive(load, one).ledger.entries.values():
            if entry.end is End.FINISHED:
                assert entry.tokens == entry.arrival.output_tokens
