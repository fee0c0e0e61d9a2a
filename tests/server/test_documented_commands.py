"""Does every command that the documentation tells people to type still work?

Command lines go through the parsers they are for, requests to the real server.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from typing import Any

import pytest
import typer

from scorpio.cli.app import app
from scorpio.server.vllm_api import parse_serve_args
from tests.documented import ROOT, Command, commands, filled_in
from tests.engine_server import ENGINE_MARKS, EngineServer

SCORPIO = commands("scorpio")
CURLS = commands("curl")
_MORE = 20  # there are more than so many: the search itself must not go blind


@pytest.mark.parametrize("command", SCORPIO, ids=str)
@pytest.mark.timeout(300)  # vLLM's parser is behind one of them
def test_every_command_line_is_understood(command: Command) -> None:
    _, name, *words = filled_in(command.text)
    group: Any = typer.main.get_command(app)  # click's, or typer's own copy of it
    with group.make_context("scorpio", [name, *words]) as outer:
        _, found, rest = group.resolve_command(outer, [name, *words])
        assert found is not None
        try:
            context = found.make_context(name, rest, parent=outer)
        except Exception as error:
            # Running text speaks of some options only.
            if command.whole or type(error).__name__ != "MissingParameter":
                raise
            return
        with context:
            if context.args:
                parse_serve_args(context.args, {"model": "m"})


def test_the_search_finds_them() -> None:
    assert len(SCORPIO) > _MORE
    assert {command.text.split()[1] for command in SCORPIO} >= {"serve", "compare", "plan"}
    assert CURLS


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands("make"):
        assert command.text.split()[1].rstrip(".,") in targets, str(command)


def test_every_module_that_is_run_exists() -> None:
    for command in commands(r"(?:\.venv/bin/)?python -m"):
        module = re.split(r"-m ", command.text)[1].split()[0]
        assert importlib.util.find_spec(module) is not None, str(command)


@pytest.mark.parametrize("command", CURLS, ids=str)
class TestOnTheServer:
    pytestmark = ENGINE_MARKS

    def test_every_request_is_answered_as_meant(
        self, engine_server: EngineServer, command: Command
    ) -> None:
        """200, or told by us; never a request that vLLM does not understand."""
        line = re.sub(
            r"(?:http://)?(?:localhost|127\.0\.0\.1):8000", engine_server.url, command.text
        )
        line = line.replace("MODEL", engine_server.model)
        engine_server.switch("scorpio")  # as documents assume, whatever other tests have left
        done = subprocess.run(
            ["bash", "-c", f"{line} --silent --show-error --write-out '\n%{{http_code}}'"],
            env={**os.environ, "SCORPIO_ADMIN_TOKEN": engine_server.admin_token},
            capture_output=True,
            text=True,
            timeout=120,
        )
        engine_server.turn_on()
        assert done.returncode == 0, done.stderr
        body, code = done.stdout.rsplit("\n", 1)
        assert code in ("200", "429"), body
        if body.startswith("{"):
            json.loads(body)
