"""What do vLLM's requests and model outputs look like in virtual time? Built here, cheaply.

Token ids carry meaning: a prompt is zeros, or one id per prefix-cache block so that equal
`hash_ids` hash equally in vLLM's own hasher; output token j of request number s is
`s * TOKEN_STRIDE + j`, so a gap, a duplicate or a stranger's token shows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from scorpio.engine.virtual.build import EngineSpec

__all__ = [
    "STOP_TOKEN",
    "TOKEN_STRIDE",
    "AsyncScheduler",
    "DraftTokenIds",
    "EngineCoreOutput",
    "EngineCoreOutputs",
    "FinishReason",
    "ModelRunnerOutput",
    "Request",
    "RequestFactory",
    "Scheduler",
    "SchedulerOutput",
    "abort",
]

TOKEN_STRIDE = 1 << 21
STOP_TOKEN = -2


class RequestFactory:
    """Builds `Request` objects for one engine."""

    def __init__(self, spec: EngineSpec) -> None:
        self._hasher: Callable[[Request], list[Any]] | None = None
        if spec.enable_prefix_caching:
            init_none_hash(sha256)
            self._hasher = get_request_block_hasher(spec.block_size, sha256)
        self._zeros = [0] * 4096
        self._made = 0

    def make(
        self,
        request_id: str,
        arrival_s: float,
        prompt_tokens: int,
        max_tokens: int,
        extra_args: Mapping[str, Any],
        *,
        priority: int = 0,
        prefix_ids: Sequence[int] = (),
        prefix_block_tokens: int = 512,
        adapter: int = 0,
        images: Sequence[tuple[int, int, str]] = (),
        content: int = 0,
    ) -> Request:
        """A streaming request as EngineCore receives it.

        prefix_ids: one id per `prefix_block_tokens` of the prompt; equal leading ids = shared
            prefix. They only matter when prefix caching is on. adapter: LoRA number, 0 = none.
        images: (first token, tokens, what names its content) of each, in the order of the prompt.
        content: number of what it says behind its prefix; 0 = what none has said before.
        """
        params = SamplingParams(
            max_tokens=max_tokens,
            ignore_eos=True,
            stop_token_ids=[STOP_TOKEN],
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args=dict(extra_args),
        )
        return Request(
            request_id=request_id,
            prompt_token_ids=self._prompt(prompt_tokens, prefix_ids, prefix_block_tokens, content),
            sampling_params=params,
            pooling_params=None,
            arrival_time=arrival_s,
            priority=priority,
            block_hasher=self._hasher,
            mm_features=[_image(*image) for image in images],
            lora_request=LoRARequest(f"adapter-{adapter}", adapter, "-") if adapter else None,
        )

    def _prompt(
        self, tokens: int, prefix_ids: Sequence[int], block_tokens: int, content: int
    ) -> list[int]:
        self._made += 1
        if self._hasher is not None:
            ids: list[int] = []
            for prefix_id in prefix_ids:
                ids += [prefix_id] * block_tokens
            del ids[tokens:]
            # A prompt longer than its ids goes on with tokens that none shares.
            return ids + [STOP_TOKEN - (content or self._made)] * (tokens - len(ids))
        while len(self._zeros) < tokens:
            self._zeros *= 2
        return [*self._zeros[: tokens - 1], content]


def _image(offset: int, tokens: int, name: str) -> MultiModalFeatureSpec:
    """As the scheduler sees one: where it is, and the hash of its content."""
    place = PlaceholderRange(offset=offset, length=tokens)
    return MultiModalFeatureSpec(None, "image", identifier=name, mm_position=place, mm_hash=name)


def abort(scheduler: Scheduler, request_id: str) -> None:
    """The client left: what EngineCore does on an abort message."""
    scheduler.finish_requests([request_id], RequestStatus.FINISHED_ABORTED)
