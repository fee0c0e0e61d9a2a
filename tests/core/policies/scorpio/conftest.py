"""What has come before a scene? Fixtures for a load that one plan cannot show."""

from __future__ import annotations

import pytest

from scorpio.core.policies.scorpio.tight_targets import TightTargets


@pytest.fixture
def turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much came that others gain more than tight targets lose (test_tight_targets.py)."""

    def best_s(self: TightTargets, _now_s: float, fixed_s: float) -> float:
        return fixed_s / self._fixed_share

    monkeypatch.setattr(TightTargets, "_best_s", best_s)
