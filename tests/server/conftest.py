"""The real server for the tests of this directory that are marked `engine`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.engine_server import EngineServer, engine_server

__all__ = ["engine_server"]


@pytest.fixture
def server(engine_server: EngineServer) -> EngineServer:
    """The shared server, with the paper's policy."""
    status = engine_server.status()
    if {status["policy"], status["requested_policy"]} != {"scorpio-paper"}:
        engine_server.switch("scorpio-paper")
    return engine_server


@pytest.fixture
def client(server: EngineServer) -> Iterator[Any]:
    """Its OpenAI client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made
