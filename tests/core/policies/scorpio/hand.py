"""What do the hand-made scenes of `scorpio` share? One profile that is easy to add up."""

from __future__ import annotations

import math
from typing import Any

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.plan import StepPlan
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from tests.conformance.snapshots import NOW_S, Row, Scene, limits, proven, snapshot

# 10 ms a step and 0.1 ms a token, whatever kind: easy to add up.
STEP = StepModel(0.010, 1e-4, 1e-4, 96.0, 0.0, 0.0, 0.0)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "hand")
LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)


def view(name: str, prompt: int, ttft_s: float = math.inf, tpot_s: float = math.inf,
         **more: Any) -> RequestView:  # fmt: skip
    on_miss = more.pop("on_miss", OnMiss.REJECT)
    more.setdefault("arrival_s", NOW_S)
    more = {"max_tokens": 1024} | more
    return RequestView(name, more.pop("seq", 1), prompt_tokens=prompt,
                       slo=Slo(ttft_s, tpot_s, on_miss=on_miss, value=more.pop("value", 1.0)),
                       **more)  # fmt: skip


def decode(name: str, tpot_s: float, slot: int = 0, produced: int = 1) -> Row:
    """A running decode whose first token came now."""
    return Row(
        view(name, 10, tpot_s=tpot_s, arrival_s=NOW_S - 0.1, max_tokens=64),
        slot,
        False,
        9 + produced,
        10,
        produced,
    )


def plan(*running: Row, waiting: tuple[RequestView, ...] = (), **options: float) -> StepPlan:
    scene = Scene(LIMITS, running, tuple((w, False) for w in waiting))
    policy = proven(
        Scorpio(PROFILE, LIMITS, ScorpioOptions(**({"light_debt": 0.0} | options))), PROFILE
    )
    return policy.plan(NOW_S, snapshot(policy, scene))
