"""What of vLLM is not supported: is it refused by its name, and, when the operator asks for that,
served exactly as stock vLLM serves it?"""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.config import KVTransferConfig, MultiModalConfig

from scorpio import channel
from scorpio.engine.features import (
    FEATURES,
    Support,
    UnsupportedConfigError,
    unsupported_features,
)
from scorpio.engine.virtual.build import EngineSpec, build_vllm_config
from scorpio.engine.virtual.requests import AsyncScheduler, Scheduler
from tests.engine.driver import Engine, VirtualScheduler

PASSTHROUGH = {"policy": "scorpio", "unsupported": "passthrough"}
OWN_MANAGER = SimpleNamespace(encoder_cache_manager_cls="a.Manager")
HISPARSE = KVTransferConfig(kv_connector="HiSparseConnector", kv_role="kv_both")
NIXL = KVTransferConfig(kv_connector="NixlConnector", kv_role="kv_both")
SWITCHED_ON = [
    ("", "kv_transfer_config", HISPARSE, "HiSparse"),
    ("", "ec_transfer_config", object(), "encoder-cache connectors"),
    ("parallel_config", "pipeline_parallel_size", 2, "pipeline parallelism"),
    ("parallel_config", "decode_context_parallel_size", 2, "context parallelism"),
    ("parallel_config", "prefill_context_parallel_size", 2, "context parallelism"),
    ("parallel_config", "enable_elastic_ep", True, "elastic expert parallelism"),
    ("scheduler_config", "policy", "priority", "priority scheduling"),
    ("scheduler_config", "scheduler_reserve_full_isl", False, "no-scheduler-reserve-full-isl"),
    ("scheduler_config", "prefill_schedule_interval", 2, "prefill-schedule-interval"),
    ("", "ec_manager_config", OWN_MANAGER, "encoder-cache managers"),
    ("", "is_mm_encoder_only", True, "--mm-encoder-only"),
    ("model_config", "runner_type", "pooling", "pooling models"),
    ("model_config", "is_encoder_decoder", True, "encoder-decoder models"),
    ("inner state", "kv_transfer_config", NIXL, "Mamba layers together with KV connectors"),
    ("model_config", "is_diffusion", True, "diffusion models"),
    ("images", "lora_config", object(), "multimodal inputs together with LoRA"),
    ("images", "kv_transfer_config", NIXL, "multimodal inputs together with KV connectors"),
    ("images and scheduler", "num_prefill_lookahead", 2, "multimodal inputs together with a draft"),
    ("scheduler", "prefix_replay_tokens", 32, "prefix replay"),
]


def switch_on(monkeypatch: pytest.MonkeyPatch, part: str, field: str, value: object) -> Any:
    """A scheduler as far as the check looks at it."""
    config = build_vllm_config(EngineSpec())
    scheduler = SimpleNamespace(
        vllm_config=config,
        prefix_replay_tokens=0,
        num_prefill_lookahead=0,
        max_num_encoder_input_tokens=0,
    )
    assert unsupported_features(scheduler, "refuse") == ()
    scheduler.max_num_encoder_input_tokens = int(part.startswith("images"))
    assert unsupported_features(scheduler, "refuse") == ()
    if part == "inner state":
        monkeypatch.setattr(type(config.model_config), "has_inner_state", True)
        assert unsupported_features(scheduler, "refuse") == ()
    owner: Any = scheduler if part.endswith("scheduler") else config
    if part.endswith("_config"):
        owner = getattr(config, part)
    if isinstance(getattr(type(owner), field, None), property):
        monkeypatch.setattr(type(owner), field, property(lambda _: value))
    else:
        monkeypatch.setattr(owner, field, value)
    return scheduler


@pytest.mark.parametrize(("part", "field", "value", "named"), SWITCHED_ON)
def test_each_has_a_name_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, part: str, field: str, value: object, named: str
) -> None:
    scheduler = switch_on(monkeypatch, part, field, value)
    with pytest.raises(UnsupportedConfigError, match=named) as refused:
        unsupported_features(scheduler, "refuse")
    assert "--unsupported passthrough" in str(refused.value)
    if named == "diffusion models":
        with pytest.raises(UnsupportedConfigError, match=named):
            unsupported_features(scheduler, "passthrough")
    else:
        (found,) = unsupported_features(scheduler, "passthrough")
        assert named in found


def test_every_unsupported_feature_is_tried_above(monkeypatch: pytest.MonkeyPatch) -> None:
    unsupported = {f.name for f in FEATURES if f.support in (Support.PASSTHROUGH, Support.REFUSED)}
    tried = set()
    for part, field, value, _ in SWITCHED_ON:
        with monkeypatch.context() as context:
            scheduler = switch_on(context, part, field, value)
            tried |= {feature.name for feature in FEATURES if feature.on(scheduler)}
    assert tried == unsupported


@pytest.mark.parametrize("text_alone", [False, True])
def test_multimodal_models_are_supported(monkeypatch: pytest.MonkeyPatch, text_alone: bool) -> None:
    texts = MultiModalConfig(language_model_only=text_alone)
    scheduler = switch_on(monkeypatch, "model_config", "multimodal_config", texts)
    assert unsupported_features(scheduler, "refuse") == ()


def test_it_is_refused_at_start_or_passed_through() -> None:
    spec = EngineSpec(policy="priority", pipeline_depth=1)
    with pytest.raises(UnsupportedConfigError, match="priority"):
        Engine(spec)
    engine = Engine(spec, PASSTHROUGH)
    engine.add("a")
    engine.drain()
    engine.assert_drained()


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
@pytest.mark.parametrize("depth", [1, 2])
def test_every_step_is_stock_vllms(
    monkeypatch: pytest.MonkeyPatch, policy: Any, depth: Any
) -> None:
    """The same tokens of the same requests in each step, where KV is short and promises hopeless:
    with priorities, preemptions, aborts."""
    spec = EngineSpec(
        policy=policy, pipeline_depth=depth, num_blocks=40, max_num_seqs=6, max_model_len=256
    )
    parallel = build_vllm_config(spec).parallel_config
    monkeypatch.setattr(parallel, "enable_elastic_ep", True)  # something to pass through
    stock_cls = AsyncScheduler if depth == 2 else Scheduler
    ours, stock = Engine(spec, PASSTHROUGH), Engine(spec, cls=stock_cls)
    assert isinstance(ours.scheduler, VirtualScheduler)
    random_, made = random.Random(7), []
    for step in range(300):
        if random_.random() < 0.4 and step < 200:
            sizes = random_.randrange(1, 200), random_.randrange(1, 40)
            priority = random_.randrange(3)
            for engine in (ours, stock):
                request = engine.request(f"r{step}", *sizes, slo_ttft_ms=1.0, slo_tpot_ms=1.0)
                request.priority = priority
                request.arrival_time = float(step)
                engine.scheduler.add_request(request)
                made.append(request)
        assert ours.step().num_scheduled_tokens == stock.step().num_scheduled_tokens
    ours.drain()
    ours.assert_drained()
    status = ours.scorpio._state()
    assert (status["passthrough"], status["policy"]) == (True, "fcfs")
    telemetry = ours.scorpio.telemetry
    assert (telemetry.fallbacks, telemetry.planned_steps) == (0, 0)
    assert sum(telemetry.outcomes.violated.values()) > 0  # they are counted all the same
    assert sum(request.num_preemptions for request in made) > 10


def test_a_switch_is_answered_with_the_reason(tmp_path: Path) -> None:
    spec = EngineSpec(policy="priority", pipeline_depth=1)
    engine = Engine(spec, {**PASSTHROUGH, "run_dir": str(tmp_path)})
    channel.write_control(tmp_path, "scorpio", record_steps=True)
    engine.add("a")
    engine.step(1.0)
    engine.drain()
    status = channel.read_status(tmp_path)
    assert status is not None
    assert (status["policy"], status["control_seq"]) == ("fcfs", 1)
    assert "priority scheduling" in status["control_error"]
    assert not (tmp_path / channel.STEPS).exists()
