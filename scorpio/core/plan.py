"""What shall this step do? The answer of a policy, and the words for how a request ends."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class RejectReason(enum.Enum):
    """Why a request was told "no" before its first token (`x-scorpio-reject-reason`)."""

    TTFT_INFEASIBLE = "ttft_infeasible"
    TPOT_INFEASIBLE = "tpot_infeasible"
    KV_INFEASIBLE = "kv_infeasible"
    QUEUE_FULL = "queue_full"
    OVER_QUOTA = "over_quota"


# For what an engine has to do now: another may have less.
BUSY = frozenset(
    (RejectReason.TTFT_INFEASIBLE, RejectReason.TPOT_INFEASIBLE, RejectReason.QUEUE_FULL)
)


class FinalState(enum.Enum):
    """Every accepted request ends in exactly one of these."""

    FINISHED = "finished"
    REJECTED = "rejected"
    ABORTED = "aborted"  # the client left
    FAILED = "failed"


LEAST_RETRY_S = 1.0  # HTTP's `retry-after` has whole seconds
MOST_RETRY_S = 30.0  # what a client is told; the load is another one by then


@dataclass(frozen=True, slots=True)
class Rejection:
    """One request refused.

    attainable_ttft_s: predicted TTFT if it were served now (counter-offer to the client).
    retry_after_s: when it WOULD be attainable; None when no time can be promised.
    never: not even an idle engine could meet it; `retry_after_s` is None then.
    """

    request_id: str
    reason: RejectReason
    attainable_ttft_s: float | None = None
    retry_after_s: float | None = LEAST_RETRY_S
    never: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the policy believes a request will see, told when it lets the request in.

    ttft_s: arrival to first token. tpot_s: mean time per further token. Nothing is decided by it:
    the engine compares it with the outcome (docs/results/mistakes.md). The latest one counts.
    """

    request_id: str
    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Instructions for one scheduler step.

    stock: True = call stock `schedule()` untouched (all fields but `forecasts` are then ignored).
    admit: request ids that may leave the waiting queue this step, in this order; None = all
        of them in stock (arrival) order. Requests that already produced tokens (preempted)
        are always admissible and come first; the engine sees to that.
    skip_decode: row indices of `RunningBatch` whose decode sits this step out.
    prefill_order: row indices of unfinished prefills in the order to serve them, all behind the
        decodes (vLLM serves `running` front to back, so a long prefill in front would eat the
        tokens meant for decodes behind it); rows not named follow in their present order.
    defer_prefill: row indices whose unfinished prefill yields this step to a more urgent one.
    reject: requests to refuse now; only ones that have produced no token. One whose prompt has
        begun is no part of this step.
    token_budget: cap on tokens in the step (decodes + prefill); None = the engine's own.
    drafts: for each row of `RunningBatch`, how many of its drafts are verified at most; None = all.
    forecasts: of requests let in; may be empty, policies without a belief tell none.
    """

    stock: bool = False
    admit: Sequence[str] | None = None
    skip_decode: Sequence[int] = ()
    prefill_order: Sequence[int] = ()
    defer_prefill: Sequence[int] = ()
    reject: Sequence[Rejection] = ()
    token_budget: int | None = None
    drafts: Sequence[int] | None = None
    forecasts: Sequence[Forecast] = ()


STOCK_STEP = StepPlan(stock=True)
