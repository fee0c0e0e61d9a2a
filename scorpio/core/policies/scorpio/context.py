"""What is known of the step that is being planned, before anything is decided?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.step_decodes import StepDecodes
from scorpio.core.snapshot import Snapshot
from scorpio.core.supply import PrefillSupply
from scorpio.core.work import usually_s

_MOST_SHARE = 0.7  # of prefill in usual steps: beyond it they are taken as that


def usual_step_s(alone_s: float, prefill_share: float) -> float:
    """A step of decodes that take so long alone, and as much prefill as of late."""
    return alone_s / (1.0 - min(prefill_share, _MOST_SHARE))


@dataclass(frozen=True, slots=True)
class StepContext:
    """All that the parts of the policy read; none of them changes it.

    model: the engine at today's speed. start_s: when the step begins to execute, `now_s` or later.
    lengths: what is believed of answers. prefill_share: of prefill in the step time of the last
    seconds. least_target_s: see tight_targets.py. promised: requests with a deadline were
    seen lately. kv_price: learn/kv_price.py. proven: steps have shown the profile to be of this
    engine; until then nothing is refused by forecast in the middle of its prompt.
    """

    options: ScorpioOptions
    model: StepModel
    snapshot: Snapshot
    now_s: float
    start_s: float
    decodes: StepDecodes
    lengths: LengthBelief
    prefill_share: float
    least_target_s: float
    promised: bool
    kv_price: float = math.inf
    proven: bool = True

    def later_step_s(self) -> float:
        """How long steps will be: the tightest TPOT SLO of the batch, or of those to come."""
        later_step_s = self.decodes.tightest_s
        if not len(self.snapshot.running):
            wanted_s = self.snapshot.between_steps_s(self.snapshot.waiting.tpot_slo_s)
            later_step_s = float(
                wanted_s[wanted_s >= self.model.step_s(1, 0.0)].min(initial=math.inf)
            )
        return min(later_step_s, self.decodes.most_s)

    def usual_step_s(self) -> float:
        """A step of these decodes and as much prefill as of late."""
        return usual_step_s(self.decodes.alone_s, self.prefill_share)

    def supply(self, step_s: float, later_s: float) -> PrefillSupply:
        """Of prefill, when this step takes `step_s` and later ones `later_s`."""
        # A first token comes out at the end of a step: half of one later, on average.
        out_s = self.start_s + 0.5 * usually_s(self.model, later_s)
        return PrefillSupply(out_s, step_s, self.decodes.alone_s, later_s)
