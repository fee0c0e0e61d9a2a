"""The shared real server for the tools that are tested by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scorpio.tenant_settings import key_line
from tests.engine_server import EngineServer, engine_server, own_slo_file
from tests.server.keyed import ACME, BETA, bearer

__all__ = ["engine_server"]

# acme has a token each third of a second: it pays for an answer after it came, and is refused until
# then, with the time to come back. beta has no limit.
_TENANTS = f"""
[tenants.acme]
keys = ["{key_line(ACME)}"]
rate_tokens_per_s = 3
burst_tokens = 1

[tenants.beta]
keys = ["{key_line(BETA)}"]
"""


@pytest.fixture(scope="module")
def keyed_server(engine_server: EngineServer) -> Iterator[EngineServer]:
    """The shared server with two tenants; without them again in the end."""
    engine_server.switch("scorpio-paper")
    with own_slo_file(engine_server) as file:
        file.write_text(file.read_text() + _TENANTS)
        admin = bearer(engine_server.admin_token)
        assert engine_server.call("PUT", "/scorpio/config", b"", admin)[0] == 200
        yield engine_server
