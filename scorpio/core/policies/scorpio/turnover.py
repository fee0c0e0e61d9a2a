"""What will be left for prefill once today's answers have ended?

In the long run each request takes its prefill and its decodes, beside the fixed part of each step.
A batch of short answers that fills its steps now leaves that much again within seconds.
"""

from __future__ import annotations

from dataclasses import replace

from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import PrefillJobs
from scorpio.core.supply import PrefillSupply
from scorpio.core.work import decode_work_s, usually_s


def lasting(step: StepContext, jobs: PrefillJobs, supply: PrefillSupply) -> PrefillSupply:
    """The same supply, with what is left later on (unless it says so already): of the work that
    those in line bring, its share of prefill."""
    model, running = step.model, step.snapshot.running
    work_s = float(jobs.work_s.sum())
    if supply.lasting_share or not len(running) or not work_s:
        return supply
    further = step.lengths.expected(jobs.predicted, jobs.most) - 1.0  # prefill gives the first
    decode_s = decode_work_s(model, jobs.tokens + jobs.prefix, further) * ~jobs.behind
    later_s = max(supply.later_step_s, supply.decode_s)
    part = work_s / (work_s + float(decode_s.sum()))
    # The batch has answers of all ages: on average one has half of its tokens yet to come.
    turnover_s = 2.0 * float(step.lengths.left(running).mean()) * usually_s(model, later_s)
    return replace(
        supply,
        lasting_share=part * max(1.0 - model.step_s(1, 0.0) / later_s, 0.0),
        turnover_s=max(turnover_s, 1e-9),
    )
