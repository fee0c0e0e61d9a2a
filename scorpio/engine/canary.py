"""Which requests are under the policy while the others are served as stock, and how do both fare?

A share of the requests by a hash of their ids. To the policy one of the others is a request without
an SLO that may not be refused, in order of arrival; its promises are counted all the same. Both
share one engine, so what the canary gains is in part what the others lose: a small share shows harm
early, it does not say what the whole would be.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from scorpio.channel import POLICY_ARM, STOCK_ARM
from scorpio.core.plan import FinalState, Forecast, RejectReason
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from scorpio.engine.record.outcomes import Outcomes

_UNASKED = Slo(on_miss=OnMiss.WAIT)
_SPAN = float(1 << 64)


def is_in(name: str, share: float) -> bool:
    """Is this one of the `share` of requests that the policy decides? The same for each replica."""
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _SPAN < share


def as_asked(view: RequestView) -> RequestView:
    """With the SLO that its client has asked for, whatever the policy is shown."""
    return view if view.asked is None else replace(view, slo=view.asked, asked=None)


class Canary:
    """share: of all requests, 0..1; 1 = all, and nothing is counted apart."""

    def __init__(self, share: float, unnamed: str) -> None:
        self.share = share
        self._arms = {arm: Outcomes(unnamed) for arm in (POLICY_ARM, STOCK_ARM)}

    def seen_by_policy(self, view: RequestView, name: str) -> RequestView:
        """What the policy is shown of it. name: of the client request that it is a part of."""
        if self.share >= 1.0 or is_in(name, self.share):
            return view
        return replace(view, slo=_UNASKED, asked=view.slo)

    def ended(
        self,
        view: RequestView,
        state: FinalState,
        first_token_s: float,
        now_s: float,
        tokens: int,
        forecast: Forecast | None = None,
    ) -> None:
        """As `Outcomes.ended`."""
        if self.share < 1.0:
            self._of(view).ended(as_asked(view), state, first_token_s, now_s, tokens, forecast)

    def refused(self, view: RequestView, reason: RejectReason) -> None:
        """As `Outcomes.refused`."""
        if self.share < 1.0:
            self._of(view).refused(as_asked(view), reason)

    def state(self) -> dict[str, object]:
        """For status.json; empty without a canary."""
        if self.share >= 1.0:
            return {}
        arms = {arm: outcomes.state()["by_class"] for arm, outcomes in self._arms.items()}
        return {"canary_share": self.share, "canary": arms}

    def _of(self, view: RequestView) -> Outcomes:
        return self._arms[POLICY_ARM if view.asked is None else STOCK_ARM]
