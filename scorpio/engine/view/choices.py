"""Which engine requests are parts of one client request? They are refused together or not at all.

An answer of which a part is refused is no answer. Parts are several prompts, or choices (`n`). The
server says which body a request is of; without it vLLM's own names tell the choices of a prompt,
`0_ID`, `1_ID`, ... (ParentRequest in vllm/v1/engine/parallel_sampling.py).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from vllm.v1.request import Request

from scorpio.core.plan import Rejection, StepPlan
from scorpio.core.slo import XARG_BODY

_CHILD = re.compile(r"\d+_(.+)", re.DOTALL)
_REMEMBERED = 4096  # fates of requests whose choices may still be on their way


class Choices:
    """`_fates`: the refusal that all parts of a body share, or None once one has begun."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}  # of those that live
        self._live: dict[str, dict[str, None]] = {}
        self._fates: OrderedDict[str, Rejection | None] = OrderedDict()

    def arrived(self, request: Request) -> None:
        """It is known from now on."""
        request_id, parent = request.request_id, _parent(request)
        if parent is not None:
            self._parents[request_id] = parent
            self._live.setdefault(parent, {})[request_id] = None

    def ended(self, request_id: str) -> None:
        """It is gone."""
        parent = self._parents.pop(request_id, None)
        if parent is not None:
            self._live[parent].pop(request_id, None)
            if not self._live[parent]:
                del self._live[parent]

    def body_of(self, request_id: str) -> str:
        """A name that all parts of its client request have."""
        return self._parents.get(request_id, request_id)

    def begun(self, request: Request) -> list[str]:
        """It runs. Those that may not be refused any more: itself, when it is one of several of its
        client request, and with the first of these all others; or a session, whose next input comes
        to a request that is there."""
        request_id = request.request_id
        parent = self._parents.get(request_id)
        if parent is None or parent in self._fates:
            return [request_id] if parent is not None or request.resumable else []
        self._settle(parent, None)
        return list(self._live.get(parent, ()))

    def may_be_refused(self, request_id: str) -> bool:
        """Has no choice of its request begun?"""
        parent = self._parents.get(request_id)
        return parent is None or self._fates.get(parent, ...) is not None

    def refusal_of(self, request_id: str) -> Rejection | None:
        """What the others of its request were told, when they were refused before it came."""
        parent = self._parents.get(request_id)
        told = None if parent is None else self._fates.get(parent)
        return None if told is None else replace(told, request_id=request_id)

    def together(self, rejections: Iterable[Rejection]) -> list[Rejection]:
        """These and those of the same requests; without those of requests that have begun."""
        found: dict[str, Rejection] = {}
        rejections = [r for r in rejections if self.may_be_refused(r.request_id)]
        for rejection in rejections:
            found[rejection.request_id] = rejection
        for rejection in rejections:
            for other in self._live.get(self._parents.get(rejection.request_id, ""), ()):
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
            tried = {self._parents.get(i) for i in plan.admit}
            reject = [r for r in reject if self._parents.get(r.request_id) not in tried]
            admit = plan.admit
        return replace(plan, reject=reject, admit=admit)

    def fates(self, rejections: Iterable[Rejection]) -> dict[str, Rejection]:
        """What will have been told to which body, for `refused`: to be asked before they end."""
        pairs = ((self._parents.get(r.request_id), r) for r in rejections)
        return {parent: rejection for parent, rejection in pairs if parent is not None}

    def refused(self, fates: Mapping[str, Rejection]) -> None:
        """These were told."""
        for parent, rejection in fates.items():
            self._settle(parent, rejection)

    def _settle(self, parent: str, fate: Rejection | None) -> None:
        self._fates[parent] = fate
        if len(self._fates) > _REMEMBERED:
            self._fates.popitem(last=False)


def _parent(request: Request) -> str | None:
    extra = None if request.sampling_params is None else request.sampling_params.extra_args
    body = extra.get(XARG_BODY) if isinstance(extra, dict) else None
    if isinstance(body, str):
        return f"body {body}"
    child = _CHILD.fullmatch(request.request_id)
    return None if child is None else child[1]
