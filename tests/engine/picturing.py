"""An engine with an encoder for images, and a runner that has what its encoder made, no more."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from random import Random
from typing import Any

from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.v1.core.encoder_cache_manager import EncoderCacheManager

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler, ModelRunnerOutput, SchedulerOutput
from scorpio.twin.engine.runner import FakeRunner, StepWork
from tests.engine.driver import Engine, VirtualScheduler, expected


class PicturingRunner(FakeRunner):
    """Like the real one it fails when a chunk reaches into an image that was not encoded, or whose
    encoding it was told to forget. encoded: embeddings made in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, int] = {}
        self.encoded: list[int] = []
        self._images: dict[str, list[MultiModalFeatureSpec]] = {}

    def execute(self, step: SchedulerOutput) -> tuple[StepWork, ModelRunnerOutput]:
        computed = dict(
            zip(
                step.scheduled_cached_reqs.req_ids,
                step.scheduled_cached_reqs.num_computed_tokens,
                strict=True,
            )
        )
        for new in step.scheduled_new_reqs:
            self._images[new.req_id] = new.mm_features
            computed[new.req_id] = new.num_computed_tokens
        for name in step.free_encoder_mm_hashes:
            self.made.pop(name, None)
        self.encoded.append(0)
        for request_id, items in step.scheduled_encoder_inputs.items():
            for item in items:
                image = self._images[request_id][item]
                self.made[image.identifier] = image.mm_position.length
                self.encoded[-1] += image.mm_position.length
        for request_id, tokens in step.num_scheduled_tokens.items():
            start = computed[request_id]
            for image in self._images.get(request_id, ()):
                place = image.mm_position
                if place.offset < start + tokens and start < place.offset + place.length:
                    assert image.identifier in self.made, f"{request_id} lacks {image.identifier}"
        return super().execute(step)


class PicturingEngine(Engine):
    """budget, cache: of the encoder, in embeddings. whole: no image is split over two chunks."""

    def __init__(
        self,
        spec: EngineSpec,
        scorpio: Mapping[str, Any] | None = None,
        cls: type[AsyncScheduler] = VirtualScheduler,
        budget: int = 128,
        cache: int = 128,
        whole: bool = False,
    ) -> None:
        super().__init__(spec, scorpio, cls)
        self.runner: PicturingRunner = PicturingRunner()
        scheduler = self.scheduler
        scheduler.max_num_encoder_input_tokens = budget
        scheduler.encoder_cache_manager = EncoderCacheManager(cache)
        config = copy(scheduler.scheduler_config)
        config.disable_chunked_mm_input = whole
        scheduler.scheduler_config = config
        self.wanted: dict[str, list[int]] = {}

    def see(
        self, request_id: str, images: list[tuple[int, int, str]], *sizes: int, **what: Any
    ) -> None:
        """Add one with images: (first token, tokens, name) each."""
        self.add(request_id, *sizes, more={"images": images, **what.pop("more", {})}, **what)

    def add(self, request_id: str, *sizes: int, **what: Any) -> None:
        super().add(request_id, *sizes, **what)
        self.wanted[request_id] = expected(
            self.number, self.scheduler.requests[request_id].max_tokens
        )

    def add_any(self, random_: Random, name: str, longest: int, **what: Any) -> None:
        """One with no, one or several images, some of which others have too."""
        images, offset = [], random_.randrange(0, 60)
        for _ in range(random_.choice((0, 1, 1, 2, 3))):
            tokens = random_.randrange(1, longest + 1)
            images.append((offset, tokens, f"i{tokens}-{random_.randrange(3)}"))
            offset += tokens + random_.choice((0, 0, 1, 30))
        prompt = offset + random_.randrange(1, 60)
        self.see(name, images, prompt, random_.randrange(1, 30), **what)

    def assert_all_served(self) -> None:
        """Each has all its tokens, and nothing is left, of KV or of the encoder's cache."""
        assert {name: self.tokens(name) for name in self.wanted} == self.wanted
        self.assert_drained()
        self.assert_nothing_encoded_is_held()

    def assert_nothing_encoded_is_held(self) -> None:
        cache = self.scheduler.encoder_cache_manager
        assert not cache.request_cached_ids
        assert not any(cache.cached.values())
        assert cache.num_freeable_slots == cache.cache_size
