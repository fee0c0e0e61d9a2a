"""What may an operator tune in `scorpio`, and within which limits?"""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.core.options import Options, option


@dataclass(frozen=True, slots=True)
class ScorpioOptions(Options):
    """S is a TPOT SLO, a share is a part of 1. What each means: docs/policies/scorpio.md."""

    light_share: float = option(0.8, 0.0, 1.0)  # of slack and S a stock step may use
    light_debt: float = option(0.3, 0.0, 10.0)  # decodes that one may be expected to make late
    slack_reserve: float = option(0.1, 0.0, 0.9)  # of S, the slack never spent (noise)
    borrow_queue_s: float = option(1.0, 0.0, 60.0)  # prefill up to which decodes may be made late
    fixed_share: float = option(0.5, 0.0, 1.0)  # of a newcomer's S that no work may be done in
    scan_requests: float = option(50.0, 1.0, 1e6)  # passed over in a step of 20 ms
    kv_share: float = option(0.97, 0.1, 10.0)  # of the KV pool that answers may need at their peak
    kv_dear_share: float = option(0.5, 0.0, 10.0)  # the same while one dear in KV joins
    tenant_share: float = option(0.0, 0.0, 100.0)  # fair shares a tenant may have; 0 = any
    tenant_room: float = option(1.0, 1.0, 100.0)  # times its prefill that one with more must find
    patience_s: float = option(60.0, 0.1, 86_400.0)  # one that stands behind is overdue then
