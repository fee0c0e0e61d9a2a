"""vLLM's dump of the step at which the engine died holds no client's text."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from vllm.logging_utils import dump_input

from tests.engine.driver import Engine
from tests.fuzz.bodies import CANARY

LOG = logging.getLogger(dump_input.__name__)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    LOG.addHandler(handler)
    yield found
    LOG.removeHandler(handler)


def dump_of_a_step() -> None:
    engine = Engine()
    for number in range(3):
        request = engine.request(f"cmpl-{number}", other=f"{CANARY},block_ids=", slo_tenant=CANARY)
        assert request.sampling_params is not None
        request.sampling_params.bad_words = [f"{CANARY})),block_ids=[1]"]
        engine.scheduler.add_request(request)
    output = engine.step()
    engine.add("late")
    dump_input.dump_engine_exception(engine.scheduler.vllm_config, output, None)


def test_no_text_of_clients_is_dumped(lines: list[str]) -> None:
    dump_of_a_step()
    text = "\n".join(lines)
    assert CANARY not in text
    assert "cmpl-0" in text  # which requests, how many tokens: what a crash is understood by
    assert "prompt_token_ids_len=32" in text
    assert "num_scheduled_tokens" in text


def test_the_operator_can_have_it_whole(lines: list[str]) -> None:
    before = LOG.level
    LOG.setLevel(logging.DEBUG)
    dump_of_a_step()
    LOG.setLevel(before)
    assert sum(CANARY in line for line in lines) == 1
