"""Bugs that scorpio.engine could have, as patches of its code."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scorpio.core.lora import AdapterPlaces
from scorpio.core.plan import Rejection, RejectReason
from scorpio.engine import apply, refusals
from scorpio.engine.gated_queue import GatedQueue
from scorpio.engine.record.outcomes import Outcomes
from scorpio.engine.refusals import Refusals
from scorpio.engine.view import running_table
from scorpio.engine.view.running_table import RunningTable
from scorpio.engine.view.sessions import RefusedSessions
from scorpio.engine.view.tracker import Tracker
from tests.simulation.planted.planting import Bug

_Patch = pytest.MonkeyPatch
adapter: Any = importlib.import_module("scorpio.engine.scheduler")
parts: Any = importlib.import_module("scorpio.engine.parts")


def _answers_lost(patch: _Patch) -> None:
    patch.setattr(Refusals, "send", lambda self, outputs: self._answers.clear())


def _answers_repeated(patch: _Patch) -> None:
    def send(self: Any, outputs: Any) -> None:
        kept = list(self._answers)
        real(self, outputs)
        self._answers = [] if self.__dict__.pop("again", False) else kept
        self.__dict__["again"] = bool(self._answers)

    real = Refusals.send
    patch.setattr(Refusals, "send", send)


def _ended_is_remembered(patch: _Patch) -> None:
    patch.setattr(Tracker, "ended", lambda self, request_id: self.live.get(request_id))


def _first_tokens_pile_up(patch: _Patch) -> None:
    patch.setattr(Tracker, "ended", lambda self, request_id: self.live.pop(request_id, None))


def _gate_stays_shut(patch: _Patch) -> None:
    patch.setattr(GatedQueue, "open_all", lambda self: None)


def _table_keeps_those_that_started(patch: _Patch) -> None:
    def forget(self: Any, request: Any) -> None:
        del self._all[request.request_id]

    patch.setattr(GatedQueue, "_forget", forget)


def _table_keeps_those_that_left(patch: _Patch) -> None:
    def remove_requests(self: Any, requests: Any) -> None:
        for request in requests:
            self._all.pop(request.request_id, None)

    patch.setattr(GatedQueue, "remove_requests", remove_requests)


def _slots_leak(patch: _Patch) -> None:
    def rebuild(self: Any, running: Any, tracked: Any) -> None:
        free = list(self._free)
        real(self, running, tracked)
        self._free = [slot for slot in self._free if slot in free]

    real = RunningTable._rebuild
    patch.setattr(RunningTable, "_rebuild", rebuild)


def _slots_shared(patch: _Patch) -> None:
    def rebuild(self: Any, running: Any, tracked: Any) -> None:
        real(self, running, tracked)
        if len(self._batch.slot) > 2:
            self._batch.slot[1] = self._batch.slot[0]

    real = RunningTable._rebuild
    patch.setattr(RunningTable, "_rebuild", rebuild)


def _rows_out_of_order(patch: _Patch) -> None:
    def refresh(self: Any, running: Any, tracked: Any) -> Any:
        batch = real(self, running, tracked)
        batch.tpot_slo_s = np.roll(batch.tpot_slo_s, 1)
        return batch

    real = RunningTable.refresh
    patch.setattr(RunningTable, "refresh", refresh)


def _rows_of_yesterday(patch: _Patch) -> None:
    def refresh(self: Any, running: Any, tracked: Any) -> Any:
        if len(running) == len(self._rows) and running:
            return self._batch  # as many as before: surely the same
        return real(self, running, tracked)

    real = RunningTable.refresh
    patch.setattr(RunningTable, "refresh", refresh)


def _chunks_count_as_decodes(patch: _Patch) -> None:
    def refresh(self: Any, running: Any, tracked: Any) -> Any:
        batch = real(self, running, tracked)
        batch.is_decode[:] = True
        return batch

    real = RunningTable.refresh
    patch.setattr(RunningTable, "refresh", refresh)


def _adapters_have_no_places(patch: _Patch) -> None:
    patch.setattr(AdapterPlaces, "of", lambda self, views: list(views))


def _any_plan_will_do(patch: _Patch) -> None:
    """And a policy that refuses one that runs already and was preempted."""
    patch.setattr(adapter, "check_plan", lambda plan, snapshot: None)
    _policy_plans(patch, lambda snapshot: {"reject": _all_waiting(snapshot)})


def _wall_clock_believed(patch: _Patch) -> None:
    def describe(request: Any, *more: Any) -> Any:
        return replace(real(request, *more), arrival_s=request.arrival_time)

    real = parts.describe
    patch.setattr(parts, "describe", describe)


def _describing_raises(patch: _Patch) -> None:
    def describe(request: Any, *more: Any) -> Any:
        if request.num_prompt_tokens % 17 == 3:
            raise ValueError("an odd request")
        return real(request, *more)

    real = parts.describe
    patch.setattr(parts, "describe", describe)


def _ended_raises(patch: _Patch) -> None:
    def ended(self: Any, *more: Any) -> None:
        raise ZeroDivisionError

    patch.setattr(Outcomes, "ended", ended)


def _skip_lasts_for_ever(patch: _Patch) -> None:
    def apply_plan(scheduler: Any, queue: Any, starts: Any, plan: Any, *more: Any) -> None:
        real(scheduler, queue, starts, plan, *more)
        for row in plan.skip_decode:
            scheduler.running[row].next_decode_eligible_step = 1 << 30

    real = adapter.apply_plan
    patch.setattr(adapter, "apply_plan", apply_plan)


def _decodes_behind_prefills(patch: _Patch) -> None:
    def order(scheduler: Any, plan: Any, snapshot: Any) -> None:
        scheduler.running.pop()

    patch.setattr(apply, "_order_running", order)


def _slots_of_none(patch: _Patch) -> None:
    patch.setattr(running_table.RunningTable, "first_token", lambda self, i, now_s: None)


def _sessions_forgotten(patch: _Patch) -> None:
    patch.setattr(RefusedSessions, "refusal_of", lambda self, request_id: None)


def _one_answer_to_a_session(patch: _Patch) -> None:
    patch.setattr(refusals, "parts_waiting", lambda request: 0)


def _next_input_is_cut(patch: _Patch) -> None:
    """Where prompts may not be: a session that reads on is not looked at."""

    def first(scheduler: Any, queue: Any, starting: Any) -> int:
        return queue.get(starting[0]).num_tokens if starting else 0

    patch.setattr(apply, "_first_prompt_tokens", first)


def _session_lost(patch: _Patch) -> None:
    """That is preempted when its answer ends: stock vLLM."""

    def remove_requests(self: Any, requests: Any) -> None:
        self._again.clear()
        real(self, requests)

    real = GatedQueue.remove_requests
    patch.setattr(GatedQueue, "remove_requests", remove_requests)


def _session_forgets(patch: _Patch) -> None:
    """What it has read, by then: stock vLLM as well."""
    patch.delattr(adapter.ScorpioScheduler, "_update_request_as_session")


def _sessions_take_places(patch: _Patch) -> None:
    """Of adapters that sit out a step."""
    patch.setattr(adapter, "keeping_adapters", lambda scheduler, plan, snapshot: plan)


def _policy_plans(patch: _Patch, more: Any) -> None:
    """All policies plan something else, too."""
    from tests.simulation.scheduler import Window

    def plan(self: Any, now_s: float, snapshot: Any) -> Any:
        made = real(self, now_s, snapshot)
        return made if made.stock else replace(made, **more(snapshot))

    real = Window.plan
    patch.setattr(Window, "plan", plan)


def _all_waiting(snapshot: Any) -> list[Rejection]:
    return [Rejection(view.request_id, RejectReason.TTFT_INFEASIBLE) for view in snapshot.waiting]


BUGS = [
    Bug("refusals are never told", "11: an answer is lost", _answers_lost),
    Bug("refusals are told twice", "11", _answers_repeated),
    Bug("who ended is remembered", "state that leaks", _ended_is_remembered),
    Bug("first tokens pile up", "state that leaks", _first_tokens_pile_up),
    Bug("the gate stays shut", "1: a step is empty", _gate_stays_shut),
    Bug("the table keeps those that started", "state that leaks", _table_keeps_those_that_started),
    Bug("the table keeps those that left", "state that leaks", _table_keeps_those_that_left),
    Bug("slots leak", "state that leaks", _slots_leak),
    Bug("two rows share a slot", "a wrong picture", _slots_shared),
    Bug("rows out of order", "a wrong picture", _rows_out_of_order),
    Bug("rows of yesterday", "a wrong picture", _rows_of_yesterday),
    Bug("chunks count as decodes", "a wrong picture", _chunks_count_as_decodes),
    Bug("adapters have no places", "vLLM's asserts", _adapters_have_no_places),
    Bug("any plan will do", "a refusal after a token", _any_plan_will_do),
    Bug("the wall clock is believed", "clock", _wall_clock_believed, pairs=True),
    Bug("describing a request raises", "11: an exception leaves", _describing_raises),
    Bug("counting an end raises", "11", _ended_raises),
    Bug("a skip lasts for ever", "credits", _skip_lasts_for_ever),
    Bug("refused sessions are forgotten", "11", _sessions_forgotten),
    Bug("a session has one answer", "11: an answer is lost", _one_answer_to_a_session),
    Bug("sessions take places", "vLLM's asserts", _sessions_take_places),
    Bug("a session is lost", "vLLM's lists", _session_lost),
    Bug("a session forgets", "vLLM's lists", _session_forgets),
    Bug("the next input is cut", "1: a step is empty", _next_input_is_cut),
    Bug("a running request falls out", "vLLM's lists", _decodes_behind_prefills),
]
