"""What could an idle engine do, and which request does it try although a forecast says no?

A refusal teaches nothing. Were an engine with nothing to do to refuse by forecast, a wrong forecast
would stay for ever; so it serves the first in order of those it would refuse. What is refused even
so is out of reach by far: by what was measured, or, where nothing was, by a profile that would have
to be wrong many times over. And after many refusals of that kind one is tried all the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np

from scorpio.core.latency import StepModel
from scorpio.core.plan import Rejection
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.request import RequestView
from scorpio.core.snapshot import EngineLimits
from scorpio.core.waiting import WaitingTable

# Times the SLO that an idle engine needs: from there on it is out of reach; and not even tried, by
# a profile of which nothing has been measured.
_NEVER, _NEVER_UNSEEN = 1.5, 8.0
_STUBBORN = 16  # steps of an idle engine that only refused, until one is tried whatever is known
_MOST_LOOKED_AT = 64


class IdleEngine:
    """State: steps since the last one that served anything. `limits`: the engine's."""

    def __init__(self, profile: StepModel, limits: EngineLimits) -> None:
        self._profile, self._limits = profile, limits
        self._only_refused = 0

    def unservable(self, step: StepContext, view: RequestView, times: float = _NEVER) -> bool:
        """Does even an idle engine need `times` as long as this SLO, by the profile and as it is?

        Both: a slow minute is no reason to say "never", nor a profile taken in one.
        """
        models = (self._profile, step.model)
        ttft_s = min(self._ttft_s(m, view) for m in models)
        tpot_s = min(m.step_s(1, float(view.prompt_tokens)) for m in models)
        return ttft_s > times * min(view.slo.ttft_s, view.slo.e2e_s) or (
            tpot_s > times * step.snapshot.between_steps_s(view.slo.tpot_s)
        )

    def tried(
        self,
        step: StepContext,
        known: bool,
        refused: Collection[str],
    ) -> int | None:
        """Row of the one to serve with nothing running, when all that wait would be refused.

        One that is late already is no question of forecasts, nor is one too long for the KV pool.
        known: has `step.model` been measured?
        """
        times = _NEVER if known else _NEVER_UNSEEN
        waiting = step.snapshot.waiting
        if len(refused) < len(waiting):
            return None
        self._only_refused += 1
        stubborn = None
        for row, view in enumerate(islice(waiting, _MOST_LOOKED_AT)):
            if self._limits.never_fits(view.prompt_tokens) or view.deadline_s <= step.start_s:
                continue
            if not self.unservable(step, view, times):
                return row
            stubborn = row if stubborn is None else stubborn
        return stubborn if self._only_refused > _STUBBORN else None

    def served(self) -> None:
        """A step was executed: there is something to learn from."""
        self._only_refused = 0

    def _ttft_s(self, model: StepModel, view: RequestView) -> float:
        """At least so long: its prompt in full steps, cached tokens left out."""
        tokens, prefix = float(view.prefill_tokens), float(view.cached_tokens)
        steps = math.ceil(max(tokens / self._limits.token_budget, 1.0))
        products = tokens * (prefix + 0.5 * tokens)
        return model.step_s(0, 0.0, tokens, 0.0, products) + (steps - 1) * model.base_s


def out_of_reach(
    reject: Sequence[Rejection], waiting: WaitingTable, start_s: float
) -> list[Rejection]:
    """Those refusals that no forecast is needed for: for ever, or the deadline has passed. While
    the profile is unproven, the others wait for what the first steps will teach."""
    late = np.flatnonzero(waiting.deadline_s <= start_s).tolist()
    passed = {waiting[row].request_id for row in late}
    return [r for r in reject if r.never or r.request_id in passed]
