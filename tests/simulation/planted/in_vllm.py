"""Bugs that vLLM itself could have: each a scheduler class that goes wrong, once or always."""

from __future__ import annotations

import contextlib
from typing import Any

from scorpio.engine.virtual.requests import (
    AsyncScheduler,
    EngineCoreOutput,
    FinishReason,
    ModelRunnerOutput,
    Scheduler,
    SchedulerOutput,
    abort,
)


class _Buggy(AsyncScheduler):
    """Acts once: in its `when`-th call of update_from_output, or the first later one that suits."""

    when = 6

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.updates, self.done = 0, False

    def update_from_output(self, step: SchedulerOutput, output: ModelRunnerOutput) -> Any:
        outputs = super().update_from_output(step, output)
        self.updates += 1
        if self.updates >= self.when and not self.done:
            with contextlib.suppress(LookupError, StopIteration, ValueError):
                self.sabotage(outputs)
                self.done = True
        return outputs

    def sabotage(self, outputs: Any) -> None:
        raise NotImplementedError


class DropsToken(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        del outputs[0].outputs[0]


class RepeatsToken(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        outputs[0].outputs.append(outputs[0].outputs[0])


class SwapsStreams(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        a, b = outputs[0].outputs[:2]
        a.new_token_ids, b.new_token_ids = b.new_token_ids, a.new_token_ids


class RewindsComputedTokens(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        self.running[0].num_computed_tokens -= 1


class RejectsAfterFirstToken(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        victim = next(r for r in self.running if r.num_output_tokens)
        abort(self, victim.request_id)
        outputs[0].outputs.append(_ended(victim.request_id, "scorpio:ttft_infeasible"))


class EndsTwice(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        victim = self.running[-1].request_id
        abort(self, victim)
        outputs[0].outputs += [_ended(victim, None), _ended(victim, None)]


class AnswersStranger(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        outputs[0].outputs.append(_ended("unknown", None))


class EndsButKeepsRunning(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        outputs[0].outputs.append(_ended(self.running[-1].request_id, None))


class ForgetsToAnswer(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        abort(self, self.running[-1].request_id)


class LosesRunningRequest(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        self.running.pop()


class QueuesTwice(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        self.running.append(self.running[0])


class LeaksBlocks(AsyncScheduler):
    def _free_request_blocks(self, request: Any) -> None:
        self.kv_cache_manager.pop_blocks_for_free(request)


class KeepsBlocks(AsyncScheduler):
    def _free_request_blocks(self, request: Any) -> None:
        pass


class CountsReferencesTwice(_Buggy):
    def sabotage(self, outputs: Any) -> None:
        manager = self.kv_cache_manager.coordinator.single_type_managers[0]
        next(iter(manager.req_to_blocks.values()))[0].ref_cnt += 1


class SkipsEveryDecode(AsyncScheduler):
    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        if self.current_step % 5 == 4:
            for request in self.running:
                request.next_decode_eligible_step = self.current_step + 2
        return super().schedule(throttle_prefills)


class HoldsPrefillChunk(AsyncScheduler):
    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        for request in self.running:
            if request.is_prefill_chunk:
                request.next_decode_eligible_step = self.current_step + 4
        return super().schedule(throttle_prefills)


class NeverAdmits(AsyncScheduler):
    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        self.max_num_active_reqs = 0
        return super().schedule(throttle_prefills)


class RemembersTheDead(AsyncScheduler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tracked_ids: set[str] = set()

    def add_request(self, request: Any) -> None:
        self.tracked_ids.add(request.request_id)
        super().add_request(request)


class AbortKeepsRequest(AsyncScheduler):
    def finish_requests(self, request_ids: Any, finished_status: Any) -> list[Any]:
        return []


def _ended(request_id: str, stop_reason: str | None) -> EngineCoreOutput:
    return EngineCoreOutput(
        request_id=request_id,
        new_token_ids=[],
        finish_reason=FinishReason.ABORT,
        stop_reason=stop_reason,
    )


BUGS: list[tuple[type[Scheduler], str]] = [
    (DropsToken, "13/14"),
    (RepeatsToken, "13/14"),
    (SwapsStreams, "13/14"),
    (RewindsComputedTokens, "13/14"),
    (RejectsAfterFirstToken, "3:"),
    (EndsTwice, "1:"),
    (AnswersStranger, "2:"),
    (EndsButKeepsRunning, "2:"),
    (ForgetsToAnswer, "1:"),
    (LosesRunningRequest, "6:"),
    (QueuesTwice, "6:"),
    (LeaksBlocks, "5:"),
    (KeepsBlocks, "5:"),
    (CountsReferencesTwice, "5:"),
    (SkipsEveryDecode, "8:"),
    (RemembersTheDead, "6:"),
]
