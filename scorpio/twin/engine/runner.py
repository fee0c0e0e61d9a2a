"""What would the GPU have answered? A model runner that computes lengths instead of tokens.

Like the real one it keeps its own state per request and knows only what `SchedulerOutput` tells
it; a scheduler that loses or repeats work therefore yields wrong token ids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scorpio.core.latency import StepModel
from scorpio.engine.virtual.requests import (
    STOP_TOKEN,
    TOKEN_STRIDE,
    ModelRunnerOutput,
    SchedulerOutput,
)


@dataclass(frozen=True, slots=True)
class StepWork:
    """The features of one step that its duration depends on (see `StepModel`). draft_tokens:
    verified beside the decodes' own."""

    decodes: int
    decode_context_tokens: int
    prefill_tokens: int = 0
    prefill_sq_tokens: float = 0.0
    prefill_prefix_products: float = 0.0
    draft_tokens: int = 0

    def apart(self) -> tuple[StepWork, ...]:
        """Prefills alone, then decodes alone; a step of one kind as it is."""
        if not (self.decodes and self.prefill_tokens):
            return (self,)
        decodes = StepWork(self.decodes, self.decode_context_tokens, draft_tokens=self.draft_tokens)
        return replace(self, decodes=0, decode_context_tokens=0, draft_tokens=0), decodes

    def step_s(self, model: StepModel) -> float:
        """Mean duration under `model`."""
        return model.step_s(
            self.decodes + self.draft_tokens,
            self.decode_context_tokens,
            self.prefill_tokens,
            self.prefill_sq_tokens,
            self.prefill_prefix_products,
        )


class FakeRunner:
    """`expect` announces a request; `execute` turns a SchedulerOutput into work and tokens."""

    def __init__(self) -> None:
        self._base: dict[str, int] = {}  # token id = base + tokens in KV after the step
        self._last: dict[str, int] = {}  # token id at which the model stops by itself
        self._prefilling: dict[str, tuple[int, int]] = {}  # id -> (tokens in KV, tokens to reach)

    def expect(self, request_id: str, number: int, prompt_tokens: int, output_tokens: int) -> None:
        """The model will say `output_tokens` tokens to request number `number`, then stop."""
        self._base[request_id] = number * TOKEN_STRIDE - prompt_tokens
        self._last[request_id] = number * TOKEN_STRIDE + output_tokens - 1

    def execute(self, step: SchedulerOutput) -> tuple[StepWork, ModelRunnerOutput]:
        """Run one step."""
        for request_id in step.finished_req_ids:
            self._base.pop(request_id, None)
            self._last.pop(request_id, None)
            self._prefilling.pop(request_id, None)
        prefilling, cached = self._prefilling, step.scheduled_cached_reqs
        for new in step.scheduled_new_reqs:  # the V2 runner is told resumed requests as new ones
            tokens = new.prefill_token_ids or new.prompt_token_ids or ()
            prefilling[new.req_id] = (new.num_computed_tokens, len(tokens))
        for request_id in cached.resumed_req_ids:
            row = cached.req_ids.index(request_id)
            target = len(cached.all_token_ids[request_id])
            prefilling[request_id] = (cached.num_computed_tokens[row], target)
        ids, computed = cached.req_ids, cached.num_computed_tokens
        base, last, stop = self._base, self._last, STOP_TOKEN
        sampled = [
            [token if (token := base[i] + c + 1) != last[i] else stop]
            for i, c in zip(ids, computed, strict=True)
        ]
        if step.scheduled_new_reqs:
            ids = ids + [new.req_id for new in step.scheduled_new_reqs]
            sampled += [[] for _ in step.scheduled_new_reqs]
        rows = dict(zip(ids, range(len(ids)), strict=True))
        work = self._work(step.num_scheduled_tokens, computed, rows, sampled)
        return work, ModelRunnerOutput(ids, rows, sampled)

    def _work(
        self,
        scheduled: dict[str, int],
        computed: list[int],
        rows: dict[str, int],
        sampled: list[list[int]],
    ) -> StepWork:
        """Features of the step; also corrects `sampled` for prompts in progress."""
        decodes, context = len(computed), sum(computed)
        tokens, squares, products = 0, 0, 0
        for request_id in [i for i in self._prefilling if i in rows]:
            done, target = self._prefilling[request_id]
            n, row = scheduled[request_id], rows[request_id]
            if row < len(computed):
                decodes -= 1
                context -= computed[row]
            tokens += n
            squares += n * n
            products += n * done
            if done + n < target:
                self._prefilling[request_id] = (done + n, target)
                sampled[row] = []
            else:
                del self._prefilling[request_id]
                # Not by `done + n`: a first step may be padded with drafts, which are rejected.
                token = self._base[request_id] + target
                sampled[row] = [STOP_TOKEN if token == self._last[request_id] else token]
        return StepWork(decodes, context + decodes, tokens, float(squares), float(products))
