"""The real server, for the tests here that need one."""

from __future__ import annotations

from tests.engine_server import engine_server

__all__ = ["engine_server"]
