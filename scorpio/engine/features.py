"""Which features of vLLM are supported, on which version, and by what is that shown? The one table.

The start-up check reads it, and docs/limits.md is written from it (`python -m tests.house.limits`).
A feature that is not supported stops the server by its name, or, with `unsupported: passthrough`,
the engine is served as stock vLLM serves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from scorpio.versions import SUPPORTED_VLLM

_REMEDY = (
    "switch it off, serve as stock vLLM does with --unsupported passthrough, or run stock vLLM "
    "without --scheduler-cls"
)


class Support(StrEnum):
    """live: with the real engine on CPU. virtual: vLLM's real scheduler in virtual time."""

    LIVE = "live"
    VIRTUAL = "virtual"
    PASSTHROUGH = "pass-through"
    REFUSED = "refused"


class UnsupportedConfigError(ValueError):
    """A vLLM feature that Scorpio does not support is switched on."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One of vLLM's. support: `but` says on which version it is another one. on: is it, in a
    constructed scheduler? Only asked of those that are not supported."""

    name: str
    support: Support
    tests: tuple[str, ...] = ()
    on: Callable[[Any], bool] = lambda scheduler: False
    but: Mapping[str, Support] = field(default_factory=dict)


def _supported(name: str, support: Support, *tests: str) -> Feature:
    return Feature(name, support, tests)


def _passed_through(name: str, on: Callable[[Any], bool]) -> Feature:
    """on: asked of its VllmConfig."""
    tests = ("tests/engine/test_passthrough.py",)
    return Feature(name, Support.PASSTHROUGH, tests, lambda scheduler: on(scheduler.vllm_config))


def _has_host_pool(config: Any) -> bool:
    """Its blocks are read after they are free, and 0.33 holds loads back for that."""
    transfer = config.kv_transfer_config
    return transfer is not None and bool(transfer.has_connector("HiSparseConnector"))


def _splits_context(config: Any) -> bool:
    parallel = config.parallel_config
    return bool(
        parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1
    )


def _holds_prefills(config: Any) -> bool:
    """0.33 holds prefills back also without data parallelism; a plan knows nothing of that."""
    return bool(getattr(config.scheduler_config, "prefill_schedule_interval", 1) > 1)


def _takes_images(scheduler: Any) -> bool:
    return bool(scheduler.max_num_encoder_input_tokens > 0)


def _with_images(name: str, on: Callable[[Any], bool]) -> Feature:
    """on: asked of the scheduler of an engine that takes more than text."""
    tests = ("tests/engine/test_passthrough.py",)
    return Feature(
        f"multimodal inputs together with {name}",
        Support.PASSTHROUGH,
        tests,
        lambda scheduler: _takes_images(scheduler) and on(scheduler),
    )


FEATURES: tuple[Feature, ...] = (
    _supported("text models with full attention", Support.LIVE, "tests/server/test_real_server.py"),
    _supported(
        "text models with sliding windows (gpt-oss, Gemma)",
        Support.LIVE,
        "tests/server/test_real_layers.py",
        "tests/engine/test_sliding_windows.py",
    ),
    _supported(
        "hybrid models (attention beside Mamba layers: Qwen3-Next, Granite 4, Falcon H1)",
        Support.LIVE,
        "tests/server/test_real_layers.py",
        "tests/engine/test_mamba.py",
    ),
    _supported(
        "models without attention (Mamba)",
        Support.LIVE,
        "tests/server/test_real_layers.py",
        "tests/engine/test_mamba.py",
    ),
    _supported("several prompts, `n`", Support.LIVE, "tests/server/test_several_and_tenants.py"),
    _supported("prefix caching", Support.LIVE, "tests/server/test_real_server.py"),
    _supported("LoRA adapters", Support.LIVE, "tests/server/test_real_adapters.py"),
    Feature(
        "data parallelism of a dense model",
        Support.LIVE,
        ("tests/server/test_data_parallel.py", "tests/engine/test_vllm_base.py"),
        but={"0.33": Support.VIRTUAL},  # its CPU workers start only where each rank has cores
    ),
    _supported(
        "data parallelism of a mixture-of-experts model",
        Support.VIRTUAL,
        "tests/engine/test_waves.py",
    ),
    _supported(
        "several API processes (`--api-server-count`)",
        Support.LIVE,
        "tests/server/test_several_api_processes.py",
    ),
    _supported("structured outputs", Support.VIRTUAL, "tests/engine/test_startable.py"),
    _supported("sessions with streamed input", Support.VIRTUAL, "tests/engine/test_sessions.py"),
    _supported("async scheduling", Support.VIRTUAL, "tests/engine/test_vllm_base.py"),
    _supported(
        "`--no-enable-chunked-prefill`", Support.VIRTUAL, "tests/engine/test_whole_prompts.py"
    ),
    _supported(
        "speculative decoding (`--speculative-config`)",
        Support.LIVE,
        "tests/server/test_real_drafts.py",
        "tests/engine/test_drafts.py",
    ),
    _supported(
        "multimodal inputs (images, audio, video)",
        Support.VIRTUAL,
        "tests/engine/test_images.py",
        "tests/engine/test_images_crowd.py",
    ),
    # A prefill that the encoder stops has no tokens in that step, and vLLM 0.32 gives the place of
    # its adapter away: a step later the batch holds one too many, and the engine ends.
    _with_images(
        "LoRA adapters (`--enable-lora`)",
        lambda scheduler: scheduler.vllm_config.lora_config is not None,
    ),
    # Not tried together.
    _with_images(
        "KV connectors (`--kv-transfer-config`)",
        lambda scheduler: scheduler.vllm_config.kv_transfer_config is not None,
    ),
    # vLLM cuts such a prompt's chunk once more, which no walk through a step here knows.
    _with_images(
        "a draft model that reads ahead by more than one token",
        lambda scheduler: scheduler.num_prefill_lookahead > 1,
    ),
    _supported(
        "KV connectors (`--kv-transfer-config`)",
        Support.LIVE,
        "tests/server/test_real_connector.py",
        "tests/engine/test_remote_kv.py",
        "tests/engine/test_remote_kv_crowd.py",
    ),
    # A state is not loaded block by block, and neither is a chunk of what is left known then.
    _passed_through(
        "Mamba layers together with KV connectors (`--kv-transfer-config`)",
        lambda config: (
            config.kv_transfer_config is not None and config.model_config.has_inner_state
        ),
    ),
    _passed_through("KV connector HiSparse (a pool on the host)", _has_host_pool),
    _passed_through(
        "encoder-cache connectors (`--ec-transfer-config`)",
        lambda config: config.ec_transfer_config is not None,
    ),
    _passed_through(
        "pipeline parallelism (`--pipeline-parallel-size` > 1)",
        lambda config: config.parallel_config.pipeline_parallel_size > 1,
    ),
    _passed_through(
        "context parallelism (`--decode-context-parallel-size`, `--prefill-context-parallel-size`)",
        _splits_context,
    ),
    _passed_through(
        "elastic expert parallelism (`--enable-elastic-ep`)",
        lambda config: bool(config.parallel_config.enable_elastic_ep),
    ),
    _passed_through(
        "priority scheduling (`--scheduling-policy priority`)",
        lambda config: config.scheduler_config.policy != "fcfs",
    ),
    _passed_through(
        "starting without room for the whole prompt (`--no-scheduler-reserve-full-isl`)",
        lambda config: not config.scheduler_config.scheduler_reserve_full_isl,
    ),
    _passed_through("holding prefills back (`--prefill-schedule-interval` > 1)", _holds_prefills),
    _passed_through(
        "encoder-cache managers of one's own (`--ec-manager-config`)",
        lambda config: config.ec_manager_config.encoder_cache_manager_cls is not None,
    ),
    _passed_through(
        "engines that only encode (`--mm-encoder-only`)",
        lambda config: bool(config.is_mm_encoder_only),
    ),
    _passed_through("pooling models", lambda config: config.model_config.runner_type == "pooling"),
    _passed_through(
        "encoder-decoder models", lambda config: bool(config.model_config.is_encoder_decoder)
    ),
    Feature(
        "models that compute the end of a cached prefix again (prefix replay)",
        Support.PASSTHROUGH,
        ("tests/engine/test_passthrough.py",),
        lambda scheduler: bool(scheduler.prefix_replay_tokens),
    ),
    # vLLM has another scheduler for these, whose place a plug-in takes.
    Feature(
        "diffusion models",
        Support.REFUSED,
        ("tests/engine/test_passthrough.py",),
        lambda scheduler: bool(scheduler.vllm_config.model_config.is_diffusion),
    ),
)


def unsupported_features(scheduler: Any, unsupported: str) -> tuple[str, ...]:
    """Names of what is on and not supported, all of which may pass through. scheduler: vLLM's,
    constructed.

    Raises:
        UnsupportedConfigError: something that may not.
    """
    found = [feature for feature in FEATURES if feature.on(scheduler)]
    if unsupported == "passthrough":
        stops = [feature for feature in found if feature.support is Support.REFUSED]
    else:
        stops = found
    if stops:
        names = ", ".join(feature.name.replace("`", "") for feature in stops)
        raise UnsupportedConfigError(f"Scorpio does not support {names}: {_REMEDY}")
    return tuple(feature.name.replace("`", "") for feature in found)


def matrix() -> str:
    """The table for people, as Markdown."""
    rows = [["feature", *(f"vLLM {version}" for version in SUPPORTED_VLLM), "shown by"]]
    rows.append(["---"] * len(rows[0]))
    for feature in FEATURES:
        tests = ", ".join(f"`{test}`" for test in feature.tests)
        levels = [str(feature.but.get(v, feature.support)) for v in SUPPORTED_VLLM]
        rows.append([feature.name, *levels, tests])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
