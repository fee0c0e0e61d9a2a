"""Speculative decoding: does every request still get its tokens, whichever policy decides? And are
steps, budgets and targets counted in what is sure?"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from scorpio.core.plan import StepPlan
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.drafting import DraftingEngine
from tests.engine.driver import Scripted
from tests.engine_server import PROFILE

MOST = 3
SPEC = EngineSpec(pipeline_depth=1, num_speculative_tokens=MOST)


def spec(depth: Any, runner: Any, **more: Any) -> EngineSpec:
    return EngineSpec(
        pipeline_depth=depth, model_runner=runner, num_speculative_tokens=MOST, **more
    )


@pytest.mark.parametrize(
    "policy", ["scorpio", "edf", "qoserve", "mooncake", "scorpio-paper", "fcfs"]
)
@pytest.mark.parametrize(("depth", "runner"), [(1, "v1"), (2, "v1"), (2, "v2")])
def test_every_request_gets_its_tokens(policy: str, depth: Any, runner: Any) -> None:
    """Short KV, so that some are preempted; tight TPOT SLOs, so that some sit steps out; some that
    end by themselves in the middle of accepted drafts, some by max_tokens."""
    tight = spec(depth, runner, num_blocks=60, max_num_seqs=8, max_num_batched_tokens=96)
    settings = {"policy": policy, "latency": PROFILE.to_dict()}
    engine = DraftingEngine(tight, settings, seed=5)
    slos: tuple[Any, ...] = ({}, {"slo_tpot_ms": 15.0}, {"slo_tpot_ms": 80.0, "slo_ttft_ms": 9e3})
    engine.serve_crowd(Random(11), 60, (150, 50), slos)
    # `scorpio` has drafts verified where they are needed.
    assert engine.scorpio._drafts.tokens_per_step > (1.05 if policy == "scorpio" else 1.5)


def decoding(engine: DraftingEngine, count: int, output: int = 60) -> Scripted:
    """So many that decode, with drafts."""
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.always = True
    for number in range(count):
        engine.add(f"d{number}", prompt=16, output=output)
    engine.step()
    assert [len(request.spec_token_ids) for request in engine.scheduler.running] == [MOST] * count
    return policy


@pytest.mark.parametrize("depth", [1, 2])
def test_a_budget_of_decodes_is_one_with_their_drafts(depth: Any) -> None:
    """Else those at the tail of the batch would get nothing, step after step."""
    engine = DraftingEngine(spec(depth, "v2"))
    policy = decoding(engine, 8)
    engine.add("new", prompt=100)
    policy.answer = StepPlan(admit=("new",), token_budget=8 + 20)
    scheduled = engine.step().num_scheduled_tokens
    assert scheduled == {f"d{n}": 1 + MOST for n in range(8)} | {"new": 20}


def test_a_policy_sees_the_budget_without_drafts() -> None:
    engine = DraftingEngine(EngineSpec(pipeline_depth=1, num_speculative_tokens=MOST))
    policy = decoding(engine, 8)
    engine.scheduler.schedule()
    assert policy.seen is not None
    assert policy.seen.limits.token_budget == engine.spec.max_num_batched_tokens - 8 * MOST


def test_there_is_room_for_a_token_of_each_whatever_drafts_take() -> None:
    engine = DraftingEngine(EngineSpec(pipeline_depth=1, num_speculative_tokens=MOST))
    decoding(engine, 8)
    drafts, limits = engine.scorpio._drafts, engine.scorpio._limits
    few = type(limits)(**{n: getattr(limits, n) for n in limits.__slots__} | {"token_budget": 20})
    assert drafts.left(few).token_budget == 9


def test_drafts_in_flight_are_no_tokens_yet() -> None:
    engine = DraftingEngine(spec(2, "v2"))
    policy = decoding(engine, 2)
    engine.step()
    engine.scheduler.schedule()
    assert policy.seen is not None
    requests = [engine.scheduler.requests[view.request_id] for view in policy.seen.running.views]
    assert policy.seen.running.is_decode.all()
    told = policy.seen.running.output_tokens.tolist()
    assert told == [request.num_output_tokens + 1 for request in requests]
    computed = policy.seen.running.context_tokens.tolist()
    assert all(c > t for c, t in zip(computed, (16 + n for n in told), strict=True))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_first_step_that_is_padded_is_a_decode_afterwards(depth: Any) -> None:
    """One token left to compute: vLLM fills its first step up with drafts, which are rejected."""
    engine = DraftingEngine(spec(depth, "v2"))
    policy = decoding(engine, 2, output=400)
    engine.add("a", prompt=1, output=40)
    policy.answer = StepPlan(admit=("a",), token_budget=3)  # with less than all of it vLLM waits
    assert engine.step().num_scheduled_tokens["a"] == 1 + MOST
    engine.runner._accepted = lambda _, drafts: 0  # type: ignore[attr-defined]
    policy.answer = StepPlan(skip_decode=(2,))
    for _ in range(3):  # until nothing of it is in flight
        engine.step()
    assert engine.scheduler.requests["a"].num_output_tokens == 1
    assert policy.seen is not None
    assert policy.seen.running.is_decode.tolist() == [True] * 3
    assert policy.seen.running.prefill_left.tolist() == [0] * 3


@pytest.mark.parametrize(
    ("depth", "runner", "kept"), [(1, "v1", MOST), (2, "v2", MOST), (2, "v1", 0)]
)
def test_drafts_of_one_that_sits_out(depth: Any, runner: Any, kept: int) -> None:
    """With the V1 runner and async scheduling the worker has forgotten them."""
    engine = DraftingEngine(spec(depth, runner))
    policy = decoding(engine, 2)
    policy.answer = StepPlan(skip_decode=(0,))
    scheduled = engine.scheduler.schedule()
    assert set(scheduled.num_scheduled_tokens) == {"d1"}
    assert len(engine.scheduler.requests["d0"].spec_token_ids) == kept


def test_tokens_per_step_are_learned() -> None:
    engine = DraftingEngine(SPEC)
    policy = decoding(engine, 8, output=4000)
    engine.always = False
    for _ in range(400):
        engine.step()
    # of 0 drafts in a third of the steps, of 3 else, half are accepted
    assert policy.seen is not None
    assert policy.seen.drafts is not None
    assert policy.seen.drafts.tokens_per_step == pytest.approx(1 + 2 / 3 * MOST / 2, rel=0.1)
    chance = policy.seen.drafts.usual
    assert policy.seen.drafts.chance == pytest.approx([chance] * 8, rel=0.2)
    assert policy.seen.drafts.usual_tokens == pytest.approx(1 + 2 / 3 * MOST / 2, rel=0.25)
    assert engine.scorpio._state()["tokens_per_step"] > 1.5  # type: ignore[operator]


def test_an_engine_without_drafts_says_one_token_per_step() -> None:
    engine = DraftingEngine(EngineSpec(pipeline_depth=1))
    engine.add("a", output=20)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.drain()
    assert policy.seen is not None
    assert policy.seen.drafts is None
    assert engine.scorpio._state()["tokens_per_step"] == 1.0


@pytest.mark.parametrize("drops", [True, False])
def test_a_draft_model_takes_a_block_off_a_prefix_hit(
    monkeypatch: pytest.MonkeyPatch, drops: bool
) -> None:
    """Only vLLM's own search knows: ours follows the chain of hashes."""
    engine = DraftingEngine(
        EngineSpec(pipeline_depth=1, num_speculative_tokens=MOST, enable_prefix_caching=True)
    )
    monkeypatch.setattr(engine.scheduler, "use_eagle_block_drop", drops)
    looks = engine.scorpio._new_looks()
    assert looks is not None
    assert looks._chained is not drops


@pytest.mark.parametrize(("depth", "runner"), [(1, "v1"), (2, "v1"), (2, "v2")])
def test_a_plan_may_have_fewer_drafts_verified(depth: Any, runner: Any) -> None:
    """Those of one step: in the next one each has all of its drafts again."""
    engine = DraftingEngine(spec(depth, runner))
    policy = decoding(engine, 4, output=400)
    policy.answer = StepPlan(drafts=(0, 1, MOST, 9))
    scheduled = engine.step().num_scheduled_tokens
    assert scheduled == {"d0": 1, "d1": 2, "d2": 1 + MOST, "d3": 1 + MOST}
    assert policy.seen is not None
    assert policy.seen.drafts is not None
    assert policy.seen.drafts.at_hand.tolist() == [MOST] * 4
    policy.answer = StepPlan()
    assert set(engine.step().num_scheduled_tokens.values()) == {1 + MOST}


def test_drafts_that_no_plan_wanted_teach_nothing() -> None:
    engine = DraftingEngine(SPEC)
    policy = decoding(engine, 2, output=400)
    policy.answer = StepPlan(drafts=(0, MOST))
    engine.runner._accepted = lambda _, drafts: drafts  # type: ignore[attr-defined]
    for _ in range(60):
        engine.step()
    assert policy.seen is not None
    assert policy.seen.drafts is not None
    chances = policy.seen.drafts.chance.tolist()
    assert chances[1] > 0.95
    assert chances[0] == pytest.approx(policy.seen.drafts.usual)


@pytest.mark.parametrize("wrong", [(1,), (1, -1)])
def test_a_plan_of_drafts_names_each_row(wrong: tuple[int, ...]) -> None:
    engine = DraftingEngine(SPEC)
    policy = decoding(engine, 2)
    policy.answer = StepPlan(drafts=wrong)
    engine.step()
    assert engine.scorpio.telemetry.fallbacks == 1


def test_a_sample_counts_what_was_verified() -> None:
    engine = DraftingEngine(SPEC)
    policy = decoding(engine, 3, output=400)
    policy.answer = StepPlan(drafts=(0, 1, 2))
    engine.step()
    assert policy.samples[-1].draft_tokens == 3
    assert (policy.samples[-1].num_decodes, policy.samples[-1].tokens) == (3, 6)


def test_what_is_cut_makes_room_for_prompts() -> None:
    """The whole budget is used, whatever was at hand."""
    engine = DraftingEngine(spec(1, "v1", max_num_seqs=16, max_num_batched_tokens=160))
    policy = decoding(engine, 8, output=400)
    engine.add("new", prompt=400)
    policy.answer = StepPlan(admit=("new",), token_budget=160, drafts=(0,) * 8)
    assert engine.step().num_scheduled_tokens["new"] == 160 - 8


@pytest.mark.parametrize("depth", [1, 2])
def test_nothing_is_kept_of_requests_that_have_ended(depth: Any) -> None:
    engine = DraftingEngine(spec(depth, "v2"))
    engine.always = True
    for number in range(5):
        engine.add(f"r{number}", prompt=16, output=20)
        engine.drain()
        engine.step()  # EngineCore tells the worker who has ended
    assert not engine.scorpio._drafts._each


def test_the_last_part_of_a_prompt_is_no_draft_that_failed() -> None:
    engine = DraftingEngine(spec(1, "v1", max_num_seqs=16, max_num_batched_tokens=32))
    usual = engine.scorpio._drafts._seen.chance
    for number in range(8):
        engine.add(f"r{number}", prompt=100, output=1)
    engine.drain()
    assert engine.scorpio._drafts._seen.chance == pytest.approx(usual)


def test_a_low_chance_is_forgotten_while_nothing_is_verified() -> None:
    engine = DraftingEngine(SPEC)
    policy = decoding(engine, 2, output=4000)
    engine.runner._accepted = lambda _, drafts: 0  # type: ignore[attr-defined]
    for _ in range(100):
        engine.step()
    low = engine.scorpio._drafts._seen.chance
    policy.answer = StepPlan(drafts=(0, 0))
    for _ in range(1000):
        engine.step()
    assert engine.scorpio._drafts._seen.chance > low + 0.2
