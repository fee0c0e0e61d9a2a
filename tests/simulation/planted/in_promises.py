"""Faults that were found from outside, planted again: each as a patch of the code that mends it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scorpio import channel
from scorpio.core.plan import Rejection
from scorpio.core.policies.paper.credits import CreditBook
from scorpio.core.policies.paper.tpot_guard import TpotGuard
from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.deficit import Deficit
from scorpio.core.policies.scorpio.fair_share import TenantShares
from scorpio.core.policies.scorpio.idle_engine import IdleEngine
from scorpio.core.policies.scorpio.jobs import PrefillJobs
from scorpio.core.policies.scorpio.shared_work import SharedWork
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.speed.follow import EngineSpeed
from scorpio.engine.caps import Caps
from scorpio.engine.gated_queue import GatedQueue
from scorpio.engine.record.faults import Breaker
from scorpio.engine.record.telemetry import Telemetry
from scorpio.engine.refusals import Refusals
from scorpio.engine.view.choices import Choices
from scorpio.engine.view.serving_clock import ServingClock
from tests.simulation.planted.planting import Bug

_Patch = pytest.MonkeyPatch


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _method(owner: type, name: str, instead: Callable[..., object]) -> Callable[[_Patch], None]:
    return lambda patch: patch.setattr(owner, name, instead)


def _steps_not_filled(patch: _Patch) -> None:
    patch.setattr(_module("scorpio.engine.scheduler"), "filled", lambda *args: None)


def _any_can_start(patch: _Patch) -> None:
    """And no step is filled: a plan may count on requests that vLLM will not start."""
    _steps_not_filled(patch)
    patch.setattr(_module("scorpio.engine.gated_queue"), "cannot_start", lambda request: False)


def _longest_step_is_constant(patch: _Patch) -> None:
    def step_decodes(*args: Any, **more: Any) -> Any:
        return replace(real(*args, **more), most_s=0.25)

    real = _module("scorpio.core.policies.scorpio.step_decodes").step_decodes
    patch.setattr(_module("scorpio.core.policies.scorpio.policy"), "step_decodes", step_decodes)


def _no_request_is_owed(patch: _Patch) -> None:
    patch.setattr(Deficit, "pay", property(lambda self: False))
    patch.setattr(Admission, "keep_for", lambda self, view: None)


def _choices_one_by_one(patch: _Patch) -> None:
    patch.setattr(Choices, "of_plan", lambda self, plan: plan)
    patch.setattr(Choices, "refusal_of", lambda self, request_id: None)
    patch.setattr(Choices, "together", lambda self, rejections: list(rejections))
    patch.setattr(Choices, "may_be_refused", lambda self, request_id: True)
    patch.setattr(Choices, "begun", lambda self, request_id: [])


def _prompts_cut(patch: _Patch) -> None:
    """Where prompts may not be cut, a short step never has room for a whole one."""

    def apply_plan(scheduler: Any, queue: Any, starts: Any, plan: Any, *more: Any) -> None:
        real(scheduler, queue, starts, plan, *more)
        if plan.token_budget is not None:
            least = min(plan.token_budget, scheduler.max_num_scheduled_tokens)
            scheduler.max_num_scheduled_tokens = least

    module = _module("scorpio.engine.scheduler")
    real = module.apply_plan
    patch.setattr(module, "apply_plan", apply_plan)


def _ended_before_worded(patch: _Patch) -> None:
    """A refusal whose wording fails has ended its request already."""

    def refuse(self: Any, scheduler: Any, rejections: Any, tracked: Any, count: Any) -> None:
        for number, rejection in enumerate(list(rejections)):
            if number % 5 == 4:
                scheduler.finish_requests([rejection.request_id], _aborted())
                raise ValueError("a wording that fails")
            real(self, scheduler, [rejection], tracked, count)

    real = Refusals.refuse
    patch.setattr(Refusals, "refuse", refuse)


def _aborted() -> Any:
    return _module("vllm.v1.request").RequestStatus.FINISHED_ABORTED


def _keys_are_believed(patch: _Patch) -> None:
    patch.setattr(GatedQueue, "_key", lambda self, view: float(self._key_of(view)))


def _writers_take_no_turns(patch: _Patch) -> None:
    patch.setattr(channel, "turn", lambda run_dir, name: contextlib.nullcontext())


def _far_steps_ignored(patch: _Patch) -> None:
    def believable(self: Any, ratio: float, expected: float) -> float | None:
        return ratio if expected / 4.0 <= ratio <= expected * 4.0 else None

    patch.setattr(EngineSpeed, "_believable", believable)


def _all_told_the_same(patch: _Patch) -> None:
    def refusals(*args: Any) -> list[Rejection]:
        told = real(*args)
        return [replace(told[0], request_id=r.request_id) for r in told]

    module = _module("scorpio.core.policies.scorpio.policy")
    real = module.refusals
    patch.setattr(module, "refusals", refusals)


def _disk_error_counts(patch: _Patch) -> None:
    """An OSError of the status file is taken for the policy's."""

    def publish(self: Any, now_s: float, state: Any, force: bool = False) -> None:
        if self.run_dir is not None:
            channel.write_status(self.run_dir, {"steps": self.steps} | state())

    patch.setattr(Telemetry, "publish", publish)


def _disk_error_is_the_end(patch: _Patch) -> None:
    def publish(self: Any, *args: Any, **more: Any) -> None:
        before = self.faults.counts["monitoring"]
        real(self, *args, **more)
        if self.faults.counts["monitoring"] > before:
            self.run_dir = None

    real = Telemetry.publish
    patch.setattr(Telemetry, "publish", publish)


def _broken_promises_lead(patch: _Patch) -> None:
    patch.setattr(PrefillJobs, "sorted_out", lambda self, supply: self)


def _all_have_an_slo(patch: _Patch) -> None:
    """And each a deadline, as if all had asked for a minute."""

    def deadline_s(view: RequestView) -> float:
        return view.arrival_s + min(view.slo.ttft_s, view.slo.e2e_s, 60.0)

    patch.setattr(Slo, "any", property(lambda self: True))
    patch.setattr(RequestView, "deadline_s", property(deadline_s))


def _pauses_count(patch: _Patch) -> None:
    patch.setattr(ServingClock, "pause", lambda self: None)


def _beginnings_count_in_full(patch: _Patch) -> None:
    """Of requests that wait, the part of their prompts that one computes for all."""

    def shared_work(waiting: Any, which: Any, computing: Any) -> SharedWork:
        tokens, cached = waiting.prefill_tokens[which], waiting.cached_tokens[which]
        return SharedWork(tokens, cached, 0.0 * tokens, 0.0 * tokens)

    patch.setattr(_module("scorpio.core.policies.scorpio.jobs"), "shared_work", shared_work)


def _head_holds_up(patch: _Patch) -> None:
    """Behind one that may not join none may."""

    def takes(self: Any, view: RequestView, *how: Any) -> bool:
        self.shut = getattr(self, "shut", False) or not real(self, view, *how)
        return not self.shut

    real = Admission.takes
    patch.setattr(Admission, "takes", takes)


def _credits_are_kept(patch: _Patch) -> None:
    """By the slot, whichever request has it next."""
    patch.setattr(CreditBook, "reset", lambda self, slot: None)


def _half_the_credit(patch: _Patch) -> None:
    def step(self: Any, slot: Any, rate: Any) -> Any:
        return real(self, slot, np.where(rate < 1.0, 0.5 * rate, rate))

    real = CreditBook.step
    patch.setattr(CreditBook, "step", step)


def _breaker_stays_open(patch: _Patch) -> None:
    patch.setattr(Breaker, "is_open", lambda self, now_s: self.opened > 0)


BUGS = [
    Bug("steps are not filled", "1: work conservation", _steps_not_filled),
    Bug("any request can start", "1: steps for requests that cannot", _any_can_start),
    Bug("a broken promise leads", "2", _broken_promises_lead),
    Bug("no request is overdue", "3: unbounded overtaking", _no_request_is_owed),
    Bug("the longest step is 0.25 s", "4", _longest_step_is_constant, pairs=True),
    Bug("no SLO counts as one", "7", _all_have_an_slo),
    Bug("a pause counts as waiting", "7", _pauses_count, pairs=True),
    Bug("choices are refused one by one", "7", _choices_one_by_one),
    Bug("a disk error is the policy's", "9", _disk_error_counts),
    Bug("a disk error ends the status", "9", _disk_error_is_the_end),
    Bug("the breaker never closes", "9", _breaker_stays_open),
    Bug("prompts are cut that may not be", "10", _prompts_cut),
    Bug("ended before it is worded", "11", _ended_before_worded),
    Bug("any key is believed", "11", _keys_are_believed),
    Bug("writers take no turns", "12", _writers_take_no_turns),
    Bug("far steps are ignored", "13", _far_steps_ignored),
    Bug("no caps", "14", _method(Caps, "refusal", lambda self, *args: None)),
    Bug("beginnings count in full", "20", _beginnings_count_in_full),
    Bug("an idle engine refuses", "23", _method(IdleEngine, "tried", lambda self, *args: None)),
    Bug("half the credit", "9", _half_the_credit),
    Bug("credits are kept", "11", _credits_are_kept),
    Bug("the first holds up the queue", "17", _head_holds_up),
    Bug("any target will do", "18", _method(Admission, "keeps_target", lambda self, view: True)),
    Bug("the published guard lets all in", "18", _method(TpotGuard, "admits", lambda *a: True)),
    Bug("shares are not looked at", "27", _method(TenantShares, "over_share", lambda *a: None)),
    Bug(
        "nothing is out of reach",
        "24",
        _method(IdleEngine, "unservable", lambda self, *args: False),
    ),
    Bug("all are told the same time", "25", _all_told_the_same),
]
