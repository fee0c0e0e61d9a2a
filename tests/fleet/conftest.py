"""Shared by the live tests."""

from tests.fleet.live import live_fleet

__all__ = ["live_fleet"]
