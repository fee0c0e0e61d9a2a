"""How long may the coming step take, for its decodes to be on time? The same for every rival."""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.decodes import Decodes
from scorpio.core.latency import StepModel
from scorpio.core.slack import decode_slack_s, least_slack_s
from scorpio.core.snapshot import Snapshot

# Of a step of decodes alone; with less slack than that a token is late whatever the step does.
_HOPELESS = 0.5


@dataclass(frozen=True, slots=True)
class StepTime:
    """start_s: when the step begins to execute. slack_s: of each decode; helpable: not too late for
    it, whatever this step does. limit_s: the least slack of those; inf without any."""

    start_s: float
    decodes: Decodes
    slack_s: FloatArray
    helpable: BoolArray
    limit_s: float

    @property
    def ready_s(self) -> float:
        """When a prompt of no tokens would be done."""
        return self.start_s + self.decodes.alone_s

    @classmethod
    def of(cls, model: StepModel, snapshot: Snapshot, start_s: float) -> StepTime:
        """By the token time-line of each decode (core/slack.py)."""
        running, decodes = snapshot.running, Decodes.of(model, snapshot.running)
        slack_s = decode_slack_s(running, decodes.rows, running.tpot_slo_s[decodes.rows], start_s)
        least_s = _HOPELESS * decodes.alone_s
        limit_s = least_slack_s(slack_s, least_s)
        return cls(start_s, decodes, slack_s, slack_s >= least_s, limit_s)
