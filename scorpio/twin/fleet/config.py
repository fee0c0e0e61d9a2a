"""What is a fleet in virtual time? Its engines, how old its statistics are, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scorpio.twin.config import TwinConfig


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """engines: one for each replica; they may differ (mixed GPUs).

    report_s: how often each tells its load. delay_s: one way, client's router to replica and back.
    lost_s: replica -> when it dies; its requests fail, those without a token are sent elsewhere
    once `notice_s` have passed. joins_s: replica -> when it has warmed up and takes part. leaves_s:
    replica -> when it drains: it gets nothing new, and finishes what it has.

    fallback: so many engines, the last ones, are the fallback deployment. fallback_shares: of each
    class that may fall back, the largest share of its requests. tries: replicas that a request
    which is refused is sent to, one after the other.
    """

    engines: tuple[TwinConfig, ...]
    report_s: float = 0.5
    delay_s: float = 0.001
    lost_s: Mapping[int, float] = field(default_factory=dict)
    joins_s: Mapping[int, float] = field(default_factory=dict)
    notice_s: float = 3.0
    leaves_s: Mapping[int, float] = field(default_factory=dict)
    fallback: int = 0
    fallback_shares: Mapping[str, float] = field(default_factory=dict)
    tries: int = 1

    def __post_init__(self) -> None:
        if not self.engines:
            raise ValueError("a fleet needs one engine or more")
        for name in ("report_s", "notice_s"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and > 0, got {getattr(self, name)!r}")
        if not 0.0 <= self.delay_s < float("inf"):
            raise ValueError(f"delay_s must be finite and >= 0, got {self.delay_s!r}")
        for number in (*self.lost_s, *self.joins_s, *self.leaves_s):
            if not 0 <= number < len(self.engines):
                raise ValueError(f"no replica {number} in a fleet of {len(self.engines)}")
        if not 0 <= self.fallback < len(self.engines):
            most = len(self.engines) - 1
            raise ValueError(f"fallback must be in [0, {most}], got {self.fallback!r}")
        if self.fallback_shares and not self.fallback:
            raise ValueError("fallback_shares: only with fallback >= 1")
        if self.tries < 1:
            raise ValueError(f"tries must be >= 1, got {self.tries!r}")

    @property
    def first(self) -> int:
        """How many engines are of the first deployment."""
        return len(self.engines) - self.fallback
