"""Which engine requests are choices of one client request? They are refused together or not at all.

vLLM makes `n` requests of one with `n` > 1 and names them `0_ID`, `1_ID`, ... (ParentRequest in
vllm/v1/engine/parallel_sampling.py). An answer of which a part is refused is no answer.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from scorpio.core.plan import Rejection, StepPlan

_CHILD = re.compile(r"\d+_(.+)", re.DOTALL)
_REMEMBERED = 4096  # fates of requests whose choices may still be on their way


class Choices:
    """`_fates`: the refusal that all choices of a request share, or None once one has begun."""

    def __init__(self) -> None:
        self._live: dict[str, dict[str, None]] = {}
        self._fates: OrderedDict[str, Rejection | None] = OrderedDict()

    def arrived(self, request_id: str) -> None:
        """A request is known from now on."""
        parent = _parent(request_id)
        if parent is not None:
            self._live.setdefault(parent, {})[request_id] = None

    def ended(self, request_id: str) -> None:
        """It is gone."""
        parent = _parent(request_id)
        if parent in self._live:
            self._live[parent].pop(request_id, None)
            if not self._live[parent]:
                del self._live[parent]

    def begun(self, request_id: str) -> list[str]:
        """It runs. The others of its request, which may not be refused any more; told once."""
        parent = _parent(request_id)
        if parent is None or parent in self._fates:
            return []
        self._settle(parent, None)
        return [other for other in self._live.get(parent, ()) if other != request_id]

    def may_be_refused(self, request_id: str) -> bool:
        """Has no choice of its request begun?"""
        parent = _parent(request_id)
        return parent is None or self._fates.get(parent, ...) is not None

    def refusal_of(self, request_id: str) -> Rejection | None:
        """What the others of its request were told, when they were refused before it came."""
        parent = _parent(request_id)
        told = None if parent is None else self._fates.get(parent)
        return None if told is None else replace(told, request_id=request_id)

    def together(self, rejections: Iterable[Rejection]) -> list[Rejection]:
        """These and those of the same requests; without those of requests that have begun."""
        found: dict[str, Rejection] = {}
        rejections = [r for r in rejections if self.may_be_refused(r.request_id)]
        for rejection in rejections:
            found[rejection.request_id] = rejection
        for rejection in rejections:
            for other in self._live.get(_parent(rejection.request_id) or "", ()):
                found.setdefault(other, replace(rejection, request_id=other))
        return list(found.values())

    def of_plan(self, plan: StepPlan, idle: bool) -> StepPlan:
        """The plan with refusals that leave no answer half refused. idle: nothing runs; where all
        that it would start are choices of refused ones, those are spared: an engine with nothing to
        do tries one request whatever is forecast."""
        if not plan.reject or not self._live:
            return plan
        reject = self.together(plan.reject)
        refused = {rejection.request_id for rejection in reject}
        admit = plan.admit and [i for i in plan.admit if i not in refused]
        if idle and plan.admit and not admit:
            tried = {_parent(i) for i in plan.admit}
            reject, admit = [r for r in reject if _parent(r.request_id) not in tried], plan.admit
        return replace(plan, reject=reject, admit=admit)

    def refused(self, rejections: Iterable[Rejection]) -> None:
        """These were told."""
        for rejection in rejections:
            parent = _parent(rejection.request_id)
            if parent is not None:
                self._settle(parent, rejection)

    def _settle(self, parent: str, fate: Rejection | None) -> None:
        self._fates[parent] = fate
        if len(self._fates) > _REMEMBERED:
            self._fates.popitem(last=False)


def _parent(request_id: str) -> str | None:
    child = _CHILD.fullmatch(request_id)
    return None if child is None else child[1]
