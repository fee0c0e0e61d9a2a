"""How much of the engine belongs to those that stand behind all others?

Nothing but what the others leave, until one of them has waited for too long: from then on a share
of the prefill time is theirs, so that each of them ends. A deficit counter keeps it at that share,
whatever the length of steps and whenever they come.
"""

from __future__ import annotations

SHARE = 0.125  # of the prefill time, and of the places in the batch (admission.py)


class Deficit:
    """State: seconds of prefill they have to get, negative when they had more than their share."""

    def __init__(self) -> None:
        self.credit_s = 0.0

    @property
    def pay(self) -> bool:
        """Shall those that are overdue come first in this step? It may be all of it: what they
        get beyond their credit is missing in the next ones."""
        return self.credit_s > 0.0

    def book(self, prefill_s: float, theirs_s: float, any_overdue: bool, step_s: float) -> None:
        """A step was planned: so much prefill, so much of it of those that stand behind.

        any_overdue: does one of them wait for longer than it should? step_s: the longest step. More
        than that is neither saved up nor held against them: what they take while the others leave
        it is not charged for.
        """
        if not any_overdue:
            self.credit_s = 0.0
            return
        credit_s = self.credit_s + SHARE * prefill_s - theirs_s
        self.credit_s = min(max(credit_s, -step_s), step_s)
