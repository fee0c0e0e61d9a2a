"""Does docs/api.md name every header, field and route of ours?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorpio.server.request.slo_headers import XARGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/api.md").read_text()
# Of browsers and proxies: nothing that an API's user sends or reads.
PLUMBING = {"x-accel-buffering", "x-content-type-options"}
SOURCES = "\n".join(path.read_text() for path in (ROOT / "scorpio").rglob("*.py"))
HEADERS = set(re.findall(r'"(x-[a-z0-9-]+)"', SOURCES)) - PLUMBING
ROUTES = set(re.findall(r'"(/scorpio/[a-z./]*)"', SOURCES))


@pytest.mark.parametrize("name", sorted({*HEADERS, *ROUTES, *XARGS}))
def test_it_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE or f" {name}`" in PAGE


def test_there_is_something_to_look_for() -> None:
    assert {"x-slo-ttft-ms", "x-scorpio-on-miss"} <= HEADERS
    assert {"/scorpio/status", "/scorpio/policy"} <= ROUTES
