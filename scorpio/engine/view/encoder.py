"""Images in a prompt: how many of its tokens would vLLM compute in this step? It is asked itself.

A prompt stops in front of an image (audio, video) that the encoder cannot take in this step: its
budget is used up, the cache of what it has made is full, or the image may not be split and the
chunk ends in it. vLLM says so in the middle of a step; here it says so before one, on a copy of its
books (`EncoderBooks`), and nothing of it stays. What the encoder makes is counted in embeddings.
"""

from __future__ import annotations

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

from scorpio.engine.seams import EncoderBooks


class EncoderRoom:
    """Of one step. Requests are to be asked for in vLLM's order: what one is given is gone for
    those behind it. Text costs nothing."""

    def __init__(self, scheduler: AsyncScheduler) -> None:
        self._scheduler = scheduler
        self._books: EncoderBooks | None = None

    def tokens(self, request: Request, computed: int, most: int) -> int:
        """Of `most` tokens behind the computed ones, those that vLLM would compute; 0: none."""
        if most <= 0 or not has_images_left(request, computed):
            return max(most, 0)
        if self._books is None:
            self._books = EncoderBooks(self._scheduler)
        return self._books.tokens(request, computed, most)


def has_encoder(scheduler: AsyncScheduler) -> bool:
    """Does this engine take anything but text?"""
    return scheduler.max_num_encoder_input_tokens > 0


def has_images_left(request: Request, computed: int) -> bool:
    """Is there an item that ends behind the computed tokens?"""
    if not request.has_encoder_inputs:
        return False
    last = request.mm_features[-1].mm_position
    return bool(last.offset + last.length > computed)


def to_end_of_item(request: Request, computed: int) -> int:
    """Tokens from there to the end of the next item: a chunk that splits none."""
    for feature in request.mm_features:
        end = feature.mm_position.offset + feature.mm_position.length
        if end > computed:
            return int(end - computed)
    return 0


def holds_encoded(scheduler: AsyncScheduler, request: Request) -> bool:
    """Does it keep anything in the encoder's cache until more of its prompt is computed?"""
    return bool(scheduler.encoder_cache_manager.get_cached_input_ids(request))


def chunk_limit(scheduler: AsyncScheduler) -> int:
    """The most tokens of one prompt in a step, as vLLM has it (:646); 0: as many as fit."""
    config = scheduler.scheduler_config
    limit = int(config.long_prefill_token_threshold)
    running, waiting = scheduler.get_request_counts()
    if limit <= 0 or running + waiting <= 1:
        return 0
    if config.long_prefill_token_threshold_adaptive:
        limit = max(limit, config.max_num_batched_tokens // (running + waiting))
    return limit
