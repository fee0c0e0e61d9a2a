"""`sjf`: which answer will be done soonest?

Question: in which order do waiting requests start? Rule: shortest predicted output first (the
predictor of S3), with ageing so that none starves; nothing refused. See docs/policies/sjf.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.core.options import Options, option
from scorpio.core.plan import StepPlan
from scorpio.core.policies.rivals.in_order import admit_in_order
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample


@dataclass(frozen=True, slots=True)
class SjfOptions(Options):
    """ageing_tokens_per_s: so many tokens shorter a request counts for each second it waits."""

    ageing_tokens_per_s: float = option(10.0, 0.001, 1e6)


class Sjf:
    """No state: ageing is in the key.

    A request that has waited w seconds counts as `ageing * w` tokens shorter. The order of
    length - ageing * (now - arrival) does not depend on now, so the key is fixed on entry. No
    request that arrives more than length / ageing seconds later can overtake.
    """

    name = "sjf"
    passive = False

    def __init__(self, options: SjfOptions) -> None:
        self._ageing = options.ageing_tokens_per_s

    def queue_key(self, view: RequestView) -> float:
        """Predicted output tokens (max_tokens when there is no usable prediction), aged."""
        return view.expected_output_tokens + self._ageing * view.arrival_s

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        return admit_in_order(snapshot)

    def observe(self, sample: StepSample) -> None:
        """Nothing to learn."""
