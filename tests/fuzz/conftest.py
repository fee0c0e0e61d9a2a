"""The real server for the tests of this directory that are marked `engine`."""

from __future__ import annotations

from tests.engine_server import engine_server

__all__ = ["engine_server"]
